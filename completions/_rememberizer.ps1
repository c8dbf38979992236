Register-ArgumentCompleter -Native -CommandName rememberizer -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $prev = $env:REMEMBERIZER_COMPLETE;
    $env:REMEMBERIZER_COMPLETE = "powershell";

    $args = $commandAst.Extent.Text
    $args = $args.Substring(0, [math]::Min($cursorPosition, $args.Length));
    if ($wordToComplete -eq "") {
        $args += " ''";
    }

    $results = Invoke-Expression @"
& rememberizer -- $args
"@;
    if ($null -eq $prev) {
        Remove-Item Env:\REMEMBERIZER_COMPLETE;
    } else {
        $env:REMEMBERIZER_COMPLETE = $prev;
    }
    $results | ForEach-Object {
        $split = $_.Split("`t");
        $cmd = $split[0];

        if ($split.Length -eq 2) {
            $help = $split[1];
        }
        else {
            $help = $split[0];
        }

        [System.Management.Automation.CompletionResult]::new($cmd, $cmd, 'ParameterValue', $help)
    }
};
