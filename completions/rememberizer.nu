def "nu-complete rememberizer" [words: list<string>] {
    with-env { REMEMBERIZER_COMPLETE: "fish" } { ^rememberizer -- ...$words }
    | lines
    | each {|candidate|
        let parts = ($candidate | split row "\t")
        { value: $parts.0, description: ($parts | get --optional 1 | default "") }
    }
}

@complete "nu-complete rememberizer"
export extern rememberizer []
