# Unlike clap's script, this one unquotes the word at the cursor.
complete --keep-order --exclusive --command rememberizer --arguments "(REMEMBERIZER_COMPLETE=fish rememberizer -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token | string unescape; or commandline --current-token))"
