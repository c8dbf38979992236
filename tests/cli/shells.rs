//! Completion in real shells: the line after a Tab.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Part, Screen, Store, Test, World, test};

/// Loads the completion scripts of the user's directory on demand.
const BASH_COMPLETION: &str = "/usr/share/bash-completion/bash_completion";

pub fn tests() -> Vec<Test> {
    let tmux = Part::Command("tmux");
    vec![
        test("shells::scripts_are_fresh", scripts_are_fresh),
        test("shells::completion_never_prompts", completion_never_prompts),
        test("shells::scripts_need_no_settings", scripts_need_no_settings)
            .needs(&[Part::Command("strace")]),
        test("shells::bash_words", bash_words).needs(&[Part::Command("bash")]),
        test("shells::elvish", || quotes("elvish")).needs(&[tmux, Part::Command("elvish")]),
        test("shells::nushell", || quotes("nushell")).needs(&[tmux, Part::Nushell]),
        test("shells::bash", || completes("bash")).needs(&[tmux, Part::File(BASH_COMPLETION)]),
        test("shells::zsh", || completes("zsh")).needs(&[tmux, Part::Command("zsh")]),
        test("shells::fish", || completes("fish")).needs(&[tmux, Part::Command("fish")]),
    ]
}

/// `completions` and `man` read the variables of the output, and no others.
fn scripts_need_no_settings() {
    let world = World::new(Store::File);
    world.login();
    let home = world.home().display().to_string();
    for args in [&["completions", "bash"][..], &["man", &home]] {
        let unused = [
            ("REMEMBERIZER_PROFILE", "../x"),
            ("REMEMBERIZER_STORE", "nowhere"),
            ("REMEMBERIZER_TIMEOUT", "soon"),
        ];
        world.run_env(&unused, args).expect(0);
        let output = world
            .run_env(&[("REMEMBERIZER_COLOR", "purple")], args)
            .expect(2);
        assert!(
            output.stderr.starts_with("error: REMEMBERIZER_COLOR: "),
            "{output:?}"
        );
        let log = world.home().join("strace.log");
        let mut command = std::process::Command::new("strace");
        world.set_environment(&mut command);
        command.args(["-f", "-e", "trace=file", "-o"]).arg(&log);
        command.arg(World::program()).args(args);
        assert!(command.output().unwrap().status.success());
        let files = std::fs::read_to_string(log).unwrap();
        assert!(!files.contains("profiles.json"), "{files}");
    }
}

/// The shells, with their scripts in `completions/` and the paths of the scripts in a home
/// directory.
const SCRIPTS: [(&str, &str, &str); 6] = [
    (
        "bash",
        "rememberizer.bash",
        ".local/share/bash-completion/completions/rememberizer",
    ),
    ("zsh", "_rememberizer", ".zfunc/_rememberizer"),
    (
        "fish",
        "rememberizer.fish",
        ".config/fish/completions/rememberizer.fish",
    ),
    ("powershell", "_rememberizer.ps1", ""),
    ("elvish", "rememberizer.elv", ""),
    ("nushell", "rememberizer.nu", ""),
];

fn scripts_are_fresh() {
    let world = World::new(Store::File);
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
    for (shell, file, _) in SCRIPTS {
        let script = world.run(&["completions", shell]).expect(0).stdout;
        assert_eq!(
            std::fs::read_to_string(kept.join(file)).unwrap_or_default(),
            script,
            "rememberizer completions {shell} >completions/{file}"
        );
    }
    let files = std::fs::read_dir(kept).unwrap().count();
    assert_eq!(files, SCRIPTS.len(), "no script of another shell is kept");
}

/// Completion works without a keyring, without a server, with an invalid profiles file, and
/// with wrong input from the shell.
fn completion_never_prompts() {
    let world = World::new(Store::File);
    let ask = |words: &[&str]| {
        let args = [&["--", "rememberizer"], words].concat();
        let env = [
            ("REMEMBERIZER_COMPLETE", "fish"),
            ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere"),
            ("HTTPS_PROXY", "http://127.0.0.1:1"),
        ];
        world.run_env(&env, &args).expect(0).stdout
    };
    let names = |text: String| -> Vec<String> {
        text.lines()
            .map(|line| line.split('\t').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(ask(&["lo"])), ["login", "logout"]);
    assert_eq!(names(ask(&["--profile", "w"])), [""; 0]);
    let profiles = world.config_dir().join("profiles.json");
    std::fs::create_dir_all(world.config_dir()).unwrap();
    for (text, expected) in [
        (
            r#"{"version":1,"profiles":{"work":{},"web":{},"$(reboot)":{},"w\u001b[2J":{},"w x":{}}}"#,
            &["web", "work"][..],
        ),
        (r#"{"version":1,"profiles":{"work":"#, &[]),
        ("", &[]),
    ] {
        std::fs::write(&profiles, text).unwrap();
        let mut found = names(ask(&["whoami", "-p", "w"]));
        found.sort();
        assert_eq!(found, expected, "{text}");
    }
    // A variable `COMPLETE` of another program is ignored.
    let output = world.run_env(&[("COMPLETE", "1")], &["--version"]);
    assert!(output.expect(0).stdout.starts_with("rememberizer "));
}

/// The text before a Tab, and the text on the screen afterwards.
const LINES: [(&str, &[&str]); 20] = [
    ("lo", &["rememberizer log", "login", "logout"]),
    ("logi", &["rememberizer login"]),
    ("profile u", &["rememberizer profile use"]),
    ("profile use w", &["rememberizer profile use work"]),
    ("profile show h", &["rememberizer profile show home"]),
    ("profile remove h", &["rememberizer profile remove home"]),
    ("--profile w", &["rememberizer --profile work"]),
    ("whoami -p h", &["rememberizer whoami -p home"]),
    ("--store ", &["keyring", "file"]),
    ("login --store k", &["rememberizer login --store keyring"]),
    ("login --store=k", &["rememberizer login --store=keyring"]),
    ("--store=", &["keyring", "file"]),
    ("verify -p=work --store=fi", &["--store=file"]),
    (
        "login --password-file my",
        &["rememberizer login --password-file my\\ password"],
    ),
    (
        "login --password-file my\\ p",
        &["rememberizer login --password-file my\\ password"],
    ),
    (
        "--config-dir ~/oth",
        &["rememberizer --config-dir ~/other/"],
    ),
    ("exec -- tmu", &["rememberizer exec -- tmux"]),
    (
        "exec -- cat my",
        &["rememberizer exec -- cat my\\ password"],
    ),
    (
        "--config-dir=other --profile wi",
        &["rememberizer --config-dir=other --profile wide"],
    ),
    (
        "--config-dir other --profile wi",
        &["rememberizer --config-dir other --profile wide"],
    ),
];

fn completes(shell: &str) {
    let world = World::new(Store::File);
    let home = world.home();
    let write = |path: &str, text: &str| {
        let path = home.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        ".config/rememberizer/profiles.json",
        r#"{"version":1,"profiles":{"work":{},"home":{}}}"#,
    );
    write(
        "other/profiles.json",
        r#"{"version":1,"profiles":{"wide":{}}}"#,
    );
    let (_, _, place) = SCRIPTS.into_iter().find(|(of, ..)| *of == shell).unwrap();
    write(place, &world.run(&["completions", shell]).expect(0).stdout);
    write("my password", "");
    // The start-up files of distributions do this.
    write(".bashrc", &format!("PS1='% '; source {BASH_COMPLETION}"));
    write(
        ".zshrc",
        "PS1='%% '; fpath=(~/.zfunc $fpath); autoload -Uz compinit; compinit -u",
    );
    write(
        ".config/fish/config.fish",
        "function fish_prompt; echo '% '; end; set -g fish_greeting; set -g fish_autosuggestion_enabled 0",
    );
    let screen = Screen::with_shell(&world, &[], &[shell, "-i"]);
    let blank = |shown: &str| shown == "%";
    screen.wait_until("prompt", blank);
    let mut lines = LINES.to_vec();
    lines.push(("profile use wi", &["rememberizer profile use wide"]));
    for (number, (typed, expected)) in lines.iter().enumerate() {
        if number == LINES.len() {
            screen.type_line(match shell {
                "fish" => "set -x REMEMBERIZER_CONFIG_DIR ~/other; echo set",
                _ => "export REMEMBERIZER_CONFIG_DIR=~/other; echo set",
            });
            screen.wait_until("prompt", |shown| shown.ends_with("\nset\n%"));
            screen.press("C-l");
            screen.wait_until("prompt", blank);
        }
        screen.type_text(&format!("rememberizer {typed}"));
        screen.press("Tab");
        if expected.len() > 1 {
            // If a Tab cannot extend the word, the shell lists the candidates.
            let more = ["fish", "zsh", "bash"].iter().position(|of| *of == shell);
            (0..more.unwrap()).for_each(|_| screen.press("Tab"));
        }
        screen.wait_until(&format!("{expected:?} after {typed:?}"), |shown| {
            expected.iter().all(|text| shown.contains(text))
        });
        // Press Ctrl-U, because it waits until the completion has ended. Ctrl-C does not.
        screen.press("C-u");
        screen.press("C-l");
        screen.wait_until("prompt", blank);
    }
}

/// Returns the candidates for a word in bash.
fn bash_words() {
    let world = World::new(Store::File);
    std::fs::create_dir(world.home().join("my dir")).unwrap();
    std::fs::create_dir(world.home().join(".confx")).unwrap();
    let script = r#"cd; source <("$PROGRAM" completions bash)
        rememberizer() { "$PROGRAM" "$@"; }
        COMP_WORDS=(rememberizer "$@"); COMP_CWORD=$#
        _rememberizer rememberizer "${!#}" 2>/dev/null
        printf '[%s]' "${COMPREPLY[@]}""#;
    for (words, expected) in [
        (&["login", "an"][..], "[]"),
        (&["api", "acc"], "[]"),
        (&["exec", "--", "ls", "no-such"], "[]"),
        (&["logi"], "[login]"),
        (&["exec", "--", "trunc"], "[truncate]"),
        (&["exec", "--", "ls", "my\\ d"], "[my\\ dir/]"),
        (&["exec", "--", "ls", "\"my d"], "[my dir/]"),
        (&["--config-dir", "~/.con"], "[~/.confx/]"),
    ] {
        let mut command = std::process::Command::new("bash");
        world.set_environment(&mut command);
        command
            .env("PROGRAM", World::program())
            .env("PATH", "/usr/bin:/bin");
        command.args(["-c", script, "bash"]).args(words);
        let output = crate::support::Output::from_process(command.output().unwrap());
        assert_eq!(output.stdout, expected, "{words:?}: {output:?}");
    }
}

/// The text before a Tab, and the candidates in elvish and nushell.
const QUOTED: [(&str, [&str; 2]); 8] = [
    ("logi", ["login", "login"]),
    ("profile use w", ["profile use work"; 2]),
    ("--store k", ["--store keyring"; 2]),
    ("--store=k", ["'--store=keyring'", "--store=keyring"]),
    ("exec -- tmu", ["exec -- tmux"; 2]),
    ("exec -- cat my", ["cat 'my password'", "cat `my password`"]),
    (
        "login --password-file 'my p",
        [
            "--password-file 'my password'",
            "--password-file `my password`",
        ],
    ),
    (
        "login --password-file \"my p",
        [
            "--password-file \"my password\"",
            "--password-file `my password`",
        ],
    ),
];

fn quotes(shell: &str) {
    let world = World::new(Store::File);
    let write = |path: &str, text: &str| {
        let path = world.home().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("my password", "");
    write(
        ".config/rememberizer/profiles.json",
        r#"{"version":1,"profiles":{"work":{}}}"#,
    );
    write(
        ".config/elvish/rc.elv",
        "set edit:prompt = { put '% ' }; set edit:rprompt = { put '' }
         eval (rememberizer completions elvish | slurp)",
    );
    write(
        ".config/nushell/config.nu",
        r#"$env.config.show_banner = false
           $env.PROMPT_COMMAND = {|| "" }
           $env.PROMPT_COMMAND_RIGHT = {|| "" }
           $env.PROMPT_INDICATOR = "% ""#,
    );
    let script = world.run(&["completions", "nushell"]).expect(0).stdout;
    write(".config/nushell/autoload/rememberizer.nu", &script);
    let (program, column) = match shell {
        "elvish" => ("elvish".to_owned(), 0),
        _ => (nushell().unwrap().display().to_string(), 1),
    };
    let screen = Screen::with_shell(&world, &[], &[&program]);
    let blank = |shown: &str| shown.ends_with('%');
    screen.wait_until("prompt", blank);
    for (typed, expected) in QUOTED {
        screen.type_text(&format!("rememberizer {typed}"));
        screen.press("Tab");
        screen.wait_for(expected[column]);
        // Pause, because Escape followed at once by a key is another key.
        screen.press("Escape");
        std::thread::sleep(Duration::from_millis(300));
        screen.press("C-u");
        screen.wait_until("empty line", blank);
    }
}

/// The nushell that `tests/run` installs with npm, since Debian has none.
pub fn nushell() -> Option<PathBuf> {
    let packages =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/nushell/node_modules/@nushell");
    let packages = std::fs::read_dir(packages).ok()?;
    let mut programs = packages.flatten().map(|dir| dir.path().join("bin/nu"));
    programs.find(|program| program.is_file())
}
