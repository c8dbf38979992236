//! `completions`: prints the scripts by which shells complete the commands.
//!
//! A script runs this program with [`VARIABLE`] set and the words typed so far as
//! arguments, and reads the candidates. Neither the keyring nor the network is used.

use clap_complete::env::Shells;

use super::Cli;
use crate::error::Error;
use crate::exit::Failure;
use crate::terminal::Terminal;

/// Set by the scripts to get candidates. clap's default name is `COMPLETE`; if another
/// program's variable had that name, no command would run.
pub const VARIABLE: &str = "REMEMBERIZER_COMPLETE";

const SHELLS: [&str; 6] = ["bash", "zsh", "fish", "powershell", "elvish", "nushell"];

/// Bash splits `--store=k` into three words and replaces only the last of them; it
/// neither unquotes the words nor quotes the candidates. clap's script does not handle this.
const BASH: &str = r#"_rememberizer() {
    local IFS=$'\n' current="${2//\\/}" before="" is_value="" candidate i
    local -a words=()
    current="${current#[\"\']}"
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == "=" && ${#words[@]} -gt 1 ]]; then
            before="${words[${#words[@]} - 1]}="
            words[${#words[@]} - 1]="$before"
            is_value=1
        elif [[ -n $is_value ]]; then
            words[${#words[@]} - 1]="$before${COMP_WORDS[i]//\\/}"
            is_value=""
            ((i == COMP_CWORD)) || before=""
        else
            words+=("${COMP_WORDS[i]//\\/}")
            before=""
        fi
    done
    words[${#words[@]} - 1]="$before$current"
    compopt +o nospace 2>/dev/null
    COMPREPLY=()
    while IFS= read -r candidate; do
        candidate="${candidate#"$before"}"
        [[ -n $candidate ]] || continue
        [[ $candidate == *[=/] ]] && compopt -o nospace 2>/dev/null
        [[ ${COMP_WORDS[COMP_CWORD]} == [\"\']* ]] || printf -v candidate '%q' "$candidate"
        [[ $current == "~"* ]] && candidate="~${candidate#\\~}"
        COMPREPLY+=("$candidate")
    done < <(
        VARIABLE=bash _CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
            rememberizer -- "${words[@]}" 2>/dev/null && echo
    )
}
complete -o nospace -o bashdefault -F _rememberizer rememberizer
"#;

/// Changes to clap's script for zsh: words are unquoted, `~/` is not quoted, and the
/// first Tab completes (zsh then runs the file in `fpath` itself as the function).
const ZSH: [(&str, &str); 3] = [
    ("\"${words[@]}\"", "\"${(@Q)words}\""),
    (
        "    if [[ -n $completions ]]; then\n",
        r#"    if [[ "$PREFIX" == "~/"* ]] && compset -P "\~/"; then
        completions=("${completions[@]#\~/}")
    fi
    if [[ -n $completions ]]; then
"#,
    ),
    (
        "compdef _clap_dynamic_completer_rememberizer rememberizer\n",
        r#"compdef _clap_dynamic_completer_rememberizer rememberizer

if [[ "$funcstack[1]" == "_rememberizer" ]]; then
    _clap_dynamic_completer_rememberizer "$@"
fi
"#,
    ),
];

/// Changes to clap's script for fish: the word at the cursor is unquoted.
const FISH: [(&str, &str); 1] = [(
    "(commandline --current-token)",
    "(commandline --current-token | string unescape; or commandline --current-token)",
)];

/// Nushell reads the same output as fish; words are unquoted, and candidates quoted. One
/// completer for the whole command, flags included, is possible since nushell 0.108.
const NUSHELL: &str = r#"def "nu-complete rememberizer" [words: list<string>] {
    let unquoted = ($words | each {|word| $word | str replace --all --regex "[`'\"]" "" })
    with-env { VARIABLE: "fish" } { ^rememberizer -- ...$unquoted }
    | lines
    | each {|candidate|
        let parts = ($candidate | split row "\t")
        let value = (if $parts.0 =~ '[\s"();|#$]' { $"`($parts.0)`" } else { $parts.0 })
        { value: $value, description: ($parts | get --optional 1 | default "") }
    }
}

@complete "nu-complete rememberizer"
export extern rememberizer []
"#;

/// Print the completion script of a shell
///
/// Commands, flags, values and profile names complete; neither the keyring nor
/// the network is used.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(rememberizer completions bash)
  rememberizer completions fish > ~/.config/fish/completions/rememberizer.fish")]
pub(crate) struct Args {
    /// Shell to print the script for
    #[arg(value_parser = SHELLS)]
    shell: String,
}

pub(super) fn run(args: &Args, terminal: &Terminal) -> Result<(), Error> {
    terminal.answer_bytes(script(&args.shell)?.as_bytes())?;
    Ok(())
}

fn script(shell: &str) -> Result<String, Error> {
    match shell {
        "bash" => return Ok(BASH.replace("VARIABLE", VARIABLE)),
        "nushell" => return Ok(NUSHELL.replace("VARIABLE", VARIABLE)),
        _ => {}
    }
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(shell) else {
        return Err(Failure::usage(format!("no completions for {shell}")).into());
    };
    let name = Cli::command().get_name().to_owned();
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, &name, &name, &name, &mut script)?;
    let mut script = String::from_utf8(script)
        .map_err(anyhow::Error::from)?
        .trim()
        .to_owned()
        + "\n";
    let patches = match shell {
        "zsh" => &ZSH[..],
        "fish" => &FISH[..],
        _ => &[],
    };
    for (before, after) in patches {
        script = script.replace(before, after);
    }
    Ok(script)
}
