//! The README's recipes, run as they are written: only addresses and
//! directories of this machine take the place of the real ones.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::sandbox::Account;
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Output, Part, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    let curl = Part::Command("curl");
    vec![
        test("readme::curl_function", curl_function).needs(&[curl]),
        test("readme::bash_prompt", bash_prompt),
        test("readme::two_accounts", two_accounts),
        test("readme::cron_line", cron_line).needs(&[Part::Keyring]),
        test("readme::container", container).needs(&[curl]),
        test("readme::github_job", github_job),
        test("readme::gitlab_job", gitlab_job),
        test("readme::completion_install_lines", completion_install_lines),
    ]
}

const README: &str = include_str!("../../README.md");

/// The fenced block that holds `text`.
fn block(text: &str) -> String {
    let blocks = README.split("```").skip(1).step_by(2);
    let found = blocks.into_iter().find(|block| block.contains(text));
    let found = found.unwrap_or_else(|| panic!("a block with {text:?}"));
    found.split_once('\n').unwrap().1.to_owned()
}

/// A directory of commands that stand in for others, before the program's own.
fn stand_in(world: &World, name: &str, script: &str) {
    let dir = world.home().join("bin");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn shell(world: &World, env: &[(&str, &str)], script: &str) -> Output {
    let url = world.api.base_url();
    let script = script.replace("https://api.rememberizer.ai/api/v1", &url);
    let bin = World::program();
    let path = format!(
        "{}:{}:{}",
        world.home().join("bin").display(),
        bin.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = Command::new("bash");
    world.dress(&mut command);
    command
        .args(["-euo", "pipefail", "-c", &script])
        .env("PATH", path)
        .env("REMEMBERIZER_API_URL", url)
        .envs(env.iter().copied());
    Output::of(command.output().unwrap())
}

/// A refresh token of the account's, as another machine would hand it over.
fn token(world: &World) -> String {
    world.api.begin_session(EMAIL).refresh.unwrap()
}

fn curl_function() {
    let world = World::new(Store::File);
    world.login();
    let output = shell(&world, &[], &block("remember() {")).expect(0);
    assert!(output.stdout.contains(EMAIL), "{output:?}");
    assert!(world.api.requests()[0].bearer.is_some());
}

fn bash_prompt() {
    let world = World::new(Store::File);
    let script = block("PS1=") + "printf %s \"${PS1@P}\"";
    let before = shell(&world, &[], &script).expect(0);
    world.login();
    let after = shell(&world, &[], &script).expect(0);
    assert!(["$ ", "# "].contains(&&*before.stdout), "{before:?}");
    assert_eq!(after.stdout, format!("(signed in) {}", before.stdout));
    assert!(world.api.requests().is_empty(), "no request");
}

fn two_accounts() {
    let world = World::new(Store::File);
    world
        .api
        .add_account(Account::new("bob@example.com", PASSWORD));
    std::fs::write(world.home().join("password.txt"), PASSWORD).unwrap();
    world.login();
    let script = block("--profile work --password-file");
    let output = shell(&world, &[("REMEMBERIZER_STORE", "file")], &script).expect(0);
    assert!(
        output.stdout.contains("* default") && output.stdout.contains("  work"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("work is the default profile"),
        "{output:?}"
    );
    assert!(world.entry_of("work").is_some() && world.entry().is_some());
}

fn cron_line() {
    let world = World::new(Store::Keyring);
    world.login();
    let line = block("rememberizer refresh --quiet");
    let command = line.trim().splitn(6, ' ').nth(5).unwrap();
    let bus = world.bus.as_ref().unwrap().address().to_owned();
    let command = command.replace("unix:path=/run/user/$(id -u)/bus", &format!("'{bus}'"));
    assert!(command.contains(&bus));
    let output = shell(&world, &[], &command).expect(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    assert_eq!(world.api.exchanges(), 1);
}

fn container() {
    let world = World::new(Store::File);
    let home = world.home().display().to_string();
    let secrets = world.home().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(
        secrets.join("rememberizer_token"),
        format!("{}\n", token(&world)),
    )
    .unwrap();
    let script = block("XDG_CONFIG_HOME=/data/config")
        .replace("/data/", &format!("{home}/data/"))
        .replace("/run/secrets", &format!("{home}/secrets"));
    let output = shell(&world, &[], &script).expect(0);
    assert!(output.stdout.contains(EMAIL), "{output:?}");
    let entry = world
        .home()
        .join("data/share/rememberizer/sessions/default.json");
    assert!(entry.is_file());
}

fn handed_on(world: &World, first: &str) {
    let kept = std::fs::read_to_string(world.home().join("secret")).unwrap();
    assert_ne!(kept.trim(), first, "the server rotates");
    assert!(
        world.api.refresh_works(kept.trim()),
        "the next job can use it"
    );
}

fn github_job() {
    let world = World::new(Store::File);
    let first = token(&world);
    stand_in(
        &world,
        "gh",
        r#"[ "$*" = "secret set REMEMBERIZER_TOKEN" ] && [ "$GH_TOKEN" = writer ] && cat > "$HOME/secret""#,
    );
    let job = block("secrets.REMEMBERIZER_TOKEN");
    let steps = job
        .lines()
        .filter_map(|line| line.trim().strip_prefix("run: "));
    let env = [("TOKEN", first.as_str()), ("GH_TOKEN", "writer")];
    let mut count = 0;
    for step in steps {
        shell(&world, &env, step).expect(0);
        count += 1;
    }
    assert_eq!(count, 3);
    handed_on(&world, &first);
}

fn gitlab_job() {
    let world = World::new(Store::File);
    let first = token(&world);
    stand_in(
        &world,
        "curl",
        r#"case "$*" in *"--form value=<-"*"/projects/7/variables/REMEMBERIZER_TOKEN") cat > "$HOME/secret" ;; *) exit 9 ;; esac"#,
    );
    let env = [
        ("REMEMBERIZER_TOKEN", first.as_str()),
        ("VARIABLES_WRITER", "writer"),
        ("CI_API_V4_URL", "https://gitlab.example/api/v4"),
        ("CI_PROJECT_ID", "7"),
    ];
    let job = block("resource_group: rememberizer");
    let mut script = String::new();
    for line in job.lines().skip_while(|line| !line.contains("script:")) {
        let line = line.trim();
        if let Some(command) = line.strip_prefix("- ") {
            script += "\n";
            script += command.trim_start_matches(">-");
        } else if !line.ends_with("script:") {
            script += " ";
            script += line;
        }
    }
    shell(&world, &env, &script).expect(0);
    handed_on(&world, &first);
}

fn completion_install_lines() {
    let world = World::new(Store::File);
    shell(&world, &[], &block("bash-completion/completions")).expect(0);
    for (shell, place) in [
        (
            "bash",
            ".local/share/bash-completion/completions/rememberizer",
        ),
        ("zsh", ".zfunc/_rememberizer"),
        ("fish", ".config/fish/completions/rememberizer.fish"),
    ] {
        let script = std::fs::read_to_string(Path::new(&world.home()).join(place)).unwrap();
        assert_eq!(script, world.run(&["completions", shell]).expect(0).stdout);
        assert!(script.contains("COMPLETE"), "{shell}");
    }
}
