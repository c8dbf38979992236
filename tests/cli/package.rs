//! The files of the package, and the dependencies, which CONTRIBUTING must explain.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Output, Part, Screen, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test(
            "package::contains_the_expected_files",
            contains_the_expected_files,
        ),
        test(
            "package::every_dependency_has_a_reason",
            every_dependency_has_a_reason,
        ),
        test(
            "package::templates_have_the_version",
            templates_have_the_version,
        ),
        test("package::deb::in_its_own_root", deb_in_its_own_root).needs(&[
            Part::Root,
            Part::Command("dpkg"),
            Part::Package("deb"),
        ]),
        test("package::rpm::in_its_own_root", rpm_in_its_own_root).needs(&[
            Part::Root,
            Part::Command("rpm"),
            Part::Package("rpm"),
        ]),
        test("package::deb::on_this_machine", deb_on_this_machine).needs(&[
            Part::Root,
            Part::Command("dpkg"),
            Part::Command("tmux"),
            Part::Command("man"),
            Part::Package("deb"),
        ]),
    ]
}

fn repository_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn contains_the_expected_files() {
    let listed = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--offline"])
        .current_dir(repository_dir())
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut loose: Vec<_> = listed
        .lines()
        .filter(|file| !file.starts_with("src/") && !file.starts_with("completions/"))
        // Describes the commit. This file exists only in a clone.
        .filter(|file| *file != ".cargo_vcs_info.json")
        .collect();
    loose.sort_unstable();
    assert_eq!(
        loose,
        [
            "CHANGELOG.md",
            "Cargo.lock",
            "Cargo.toml",
            "Cargo.toml.orig",
            "LICENSE",
            "OUTPUT.md",
            "README.md",
            "build.rs"
        ]
    );
    for file in [
        "src/main.rs",
        "src/api/cookie.rs",
        "completions/_rememberizer",
    ] {
        assert!(listed.lines().any(|line| line == file), "{file}");
    }
}

fn every_dependency_has_a_reason() {
    let read = |file: &str| std::fs::read_to_string(repository_dir().join(file)).unwrap();
    let reasons = read("CONTRIBUTING.md");
    let reasons = reasons.split("## Dependencies").nth(1).unwrap();
    let named: Vec<_> = reasons
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        .collect();
    let manifest = read("Cargo.toml");
    let mut in_dependencies = false;
    let mut count = 0;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
        } else if in_dependencies && let Some((name, _)) = line.split_once(" = ") {
            count += 1;
            assert!(
                named.contains(&name),
                "{name} has no reason in CONTRIBUTING.md"
            );
        }
    }
    assert!(count > 40, "only {count}");
}

/// The templates name no repository and have the version of `Cargo.toml`. After they are filled
/// in, no placeholder remains.
fn templates_have_the_version() {
    let version = env!("CARGO_PKG_VERSION");
    let dir = tempfile::tempdir().unwrap();
    let sums: String = [
        "aarch64-apple-darwin.tar.gz",
        "x86_64-apple-darwin.tar.gz",
        "aarch64-unknown-linux-musl.tar.gz",
        "x86_64-unknown-linux-musl.tar.gz",
        "x86_64-pc-windows-msvc.zip",
    ]
    .map(|name| format!("{}  rememberizer-{version}-{name}\n", "0a".repeat(32)))
    .concat();
    let list = dir.path().join("SHA256SUMS");
    std::fs::write(&list, sums).unwrap();
    let filled = Command::new(repository_dir().join("packaging/fill"))
        .arg("https://git.example/ann/it")
        .arg(&list)
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(filled.status.success(), "{filled:?}");
    for (file, line) in [
        ("homebrew/rememberizer.rb", format!("version \"{version}\"")),
        (
            "scoop/rememberizer.json",
            format!("\"version\": \"{version}\""),
        ),
        ("nix/flake.nix", format!("version = \"{version}\";")),
    ] {
        let path = repository_dir().join("packaging").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(&line), "{file} lacks {line}");
        assert!(!text.contains("https://"), "{file} names an address");
        let filled = dir.path().join(path.file_name().unwrap());
        let text = std::fs::read_to_string(filled).unwrap();
        assert!(
            text.contains("https://git.example/ann/it") && !text.contains('@'),
            "{text}"
        );
    }
}

/// Returns the package of this kind that `packaging/build` has created.
pub fn package(extension: &str) -> Option<PathBuf> {
    let packages = std::fs::read_dir(repository_dir().join("target/packages")).ok()?;
    packages
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == extension))
}

fn dpkg(args: &[&str]) {
    let output = Command::new("dpkg")
        // Debian images are often configured to skip manual pages.
        .args([
            "--path-include=/usr/share/man/*",
            "--path-include=/usr/share/doc/*",
        ])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files_below(&entry.path()),
            false => vec![entry.path()],
        })
        .collect()
}

fn version_of(program: &Path) {
    let output = Command::new(program).arg("--version").output().unwrap();
    let version = concat!("rememberizer ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(Output::from_process(output).expect(0).stdout, version);
}

fn deb_in_its_own_root() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("var/lib/dpkg");
    for name in ["info", "updates", "triggers"] {
        std::fs::create_dir_all(database.join(name)).unwrap();
    }
    for name in ["status", "available"] {
        std::fs::write(database.join(name), "").unwrap();
    }
    let flag = format!("--root={}", dir.path().display());
    let package = package("deb").unwrap().display().to_string();
    // There is no C library in that root directory.
    dpkg(&[&flag, "--force-depends", "--install", &package]);
    version_of(&dir.path().join("usr/bin/rememberizer"));
    for file in [
        "usr/share/man/man1/rememberizer-login.1.gz",
        "usr/share/bash-completion/completions/rememberizer",
        "usr/share/zsh/vendor-completions/_rememberizer",
        "usr/share/fish/vendor_completions.d/rememberizer.fish",
        "usr/share/doc/rememberizer/copyright",
    ] {
        assert!(dir.path().join(file).is_file(), "{file}");
    }
    dpkg(&[&flag, "--purge", "rememberizer"]);
    let left: Vec<_> = files_below(dir.path())
        .into_iter()
        .filter(|path| !path.starts_with(&database))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

fn rpm_in_its_own_root() {
    let dir = tempfile::tempdir().unwrap();
    let rpm = |args: &[&str]| {
        let output = Command::new("rpm")
            // On Debian, rpm has no database, so no dependency is installed.
            .args(["--force-debian", "--nodeps", "--dbpath", "/db", "--root"])
            .arg(dir.path())
            .args(args)
            .output();
        Output::from_process(output.unwrap()).expect(0)
    };
    rpm(&["-i", &package("rpm").unwrap().display().to_string()]);
    version_of(&dir.path().join("usr/bin/rememberizer"));
    for file in [
        "usr/share/man/man1/rememberizer-login.1.gz",
        "usr/share/bash-completion/completions/rememberizer",
        "usr/share/zsh/site-functions/_rememberizer",
        "usr/share/fish/vendor_completions.d/rememberizer.fish",
        "usr/share/licenses/rememberizer/LICENSE",
    ] {
        assert!(dir.path().join(file).is_file(), "{file}");
    }
    rpm(&["-e", "rememberizer"]);
    let left = files_below(&dir.path().join("usr"));
    assert_eq!(left, Vec::<PathBuf>::new());
}

fn deb_on_this_machine() {
    let listed = Command::new("dpkg").args(["-L", "rememberizer"]).output();
    assert!(
        !listed.unwrap().status.success(),
        "the package is installed on this machine already"
    );
    let world = World::new(Store::File);
    dpkg(&["--install", &package("deb").unwrap().display().to_string()]);
    let listed = Command::new("dpkg").args(["-L", "rememberizer"]).output();
    let listed = Output::from_process(listed.unwrap()).expect(0).stdout;
    // If a check fails, the package must still be removed.
    let used = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        version_of(Path::new("/usr/bin/rememberizer"));
        let mut man = Command::new("man");
        world.set_environment(&mut man);
        let page = man.arg("rememberizer-login").output().unwrap();
        let page = Output::from_process(page).expect(0).stdout;
        assert!(page.contains("rememberizer login"), "{page}");
        // A new login shell loads the completion at the first Tab.
        let env = [("PATH", "/usr/bin:/bin"), ("PS1", "$ ")];
        let screen = Screen::with_shell(&world, &env, &["bash", "--norc"]);
        screen.type_line(". /usr/share/bash-completion/bash_completion");
        screen.type_text("rememberizer logi");
        screen.press("Tab");
        screen.wait_for("rememberizer login");
    }));
    dpkg(&["--purge", "rememberizer"]);
    if let Err(panic) = used {
        std::panic::resume_unwind(panic);
    }
    let left: Vec<_> = listed
        .lines()
        .filter(|path| path.contains("rememberizer") && Path::new(path).exists())
        .collect();
    assert_eq!(left, Vec::<&str>::new());
}
