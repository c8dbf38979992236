set edit:completion:arg-completer[rememberizer] = { |@words|
    var index = (count $words)
    set index = (- $index 1)

    put (env _CLAP_IFS="\n" _CLAP_COMPLETE_INDEX=(to-string $index) REMEMBERIZER_COMPLETE="elvish" rememberizer -- $@words) | to-lines
}
