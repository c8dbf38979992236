# One completer for the whole command, flags included, takes nushell 0.108. The output
# is the same as for fish; words are unquoted here, and candidates quoted.
def "nu-complete rememberizer" [words: list<string>] {
    let unquoted = ($words | each {|word| $word | str replace --all --regex "[`'\"]" "" })
    with-env { REMEMBERIZER_COMPLETE: "fish" } { ^rememberizer -- ...$unquoted }
    | lines
    | each {|candidate|
        let parts = ($candidate | split row "\t")
        let value = (if $parts.0 =~ '[\s"();|#$]' { $"`($parts.0)`" } else { $parts.0 })
        { value: $value, description: ($parts | get --optional 1 | default "") }
    }
}

@complete "nu-complete rememberizer"
export extern rememberizer []
