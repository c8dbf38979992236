//! Shared by the tests: the declaration of a test, and the environment that it runs in.

pub mod bus;
pub mod desktop;
pub mod display;
pub mod inside;
pub mod machines;
pub mod screen;
pub mod world;

use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

pub use bus::Bus;
pub use desktop::{Desktop, Service};
pub use display::Display;
pub use inside::Inside;
pub use screen::Screen;
pub use world::{Output, Store, World};

/// Something that a test needs and that may be missing on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// dbus-daemon, gnome-keyring-daemon, secret-tool.
    Keyring,
    /// A command, by its name or path.
    Command(&'static str),
    /// The standard library of another target, which rustup installs.
    Target(&'static str),
    /// A file, by its path.
    File(&'static str),
    /// Nushell, which npm installs.
    Nushell,
    /// A package that `packaging/build` has created, by its extension.
    Package(&'static str),
    /// A module of Python.
    Python(&'static str),
    /// Root privileges, to mount file systems and to change the user.
    Root,
}

impl Part {
    fn missing(self) -> Option<&'static str> {
        match self {
            Self::Keyring => ["dbus-daemon", "gnome-keyring-daemon", "secret-tool"]
                .into_iter()
                .find(|name| !on_path(name)),
            Self::Command(name) => (!on_path(name)).then_some(name),
            Self::File(path) => (!std::path::Path::new(path).exists()).then_some(path),
            Self::Nushell => (crate::shells::nushell().is_none()).then_some("nushell, by npm"),
            Self::Target(target) => {
                let printed = std::process::Command::new("rustc")
                    .args(["--print", "target-libdir", "--target", target])
                    .output();
                let dir =
                    printed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
                let found = dir.is_ok_and(|dir| std::path::Path::new(dir.trim()).is_dir());
                (!found).then_some(target)
            }
            Self::Package(kind) => {
                (crate::package::package(kind).is_none()).then_some("a package of packaging/build")
            }
            Self::Python(module) => {
                let found = std::process::Command::new("/usr/bin/python3")
                    .args(["-c", &format!("import {module}")])
                    .output()
                    .is_ok_and(|output| output.status.success());
                (!found).then_some(module)
            }
            Self::Root => {
                let own = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
                (!own).then_some("root")
            }
        }
    }
}

fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// One test.
pub struct Test {
    name: String,
    needs: Vec<Part>,
    long: bool,
    run: Box<dyn FnOnce() + Send>,
}

/// Creates a test that needs only the program.
pub fn test(name: &str, run: impl FnOnce() + Send + 'static) -> Test {
    Test {
        name: name.to_owned(),
        needs: Vec::new(),
        long: false,
        run: Box::new(run),
    }
}

/// Creates a test for the file store and the same test for a keyring.
pub fn on_both_stores(name: &str, run: fn(&World)) -> [Test; 2] {
    [
        test(&format!("{name}::file"), move || {
            run(&World::new(Store::File));
        }),
        test(&format!("{name}::keyring"), move || {
            run(&World::new(Store::Keyring));
        })
        .needs(&[Part::Keyring]),
    ]
}

impl Test {
    /// Marks the test as ignored if one of `parts` is missing.
    pub fn needs(mut self, parts: &[Part]) -> Self {
        self.needs.extend_from_slice(parts);
        self
    }

    /// Marks the test as ignored unless `REMEMBERIZER_TEST_LONG` is set, as `tests/run --long`
    /// does.
    pub fn long(mut self) -> Self {
        self.long = true;
        self
    }

    fn into_trial(self) -> Trial {
        let missing = self.needs.iter().find_map(|part| part.missing());
        let long = self.long && std::env::var_os("REMEMBERIZER_TEST_LONG").is_none();
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        match missing {
            Some(part) if in_ci => Trial::test(self.name, move || {
                Err(Failed::from(format!("could not run: {part} is missing")))
            }),
            Some(part) => Trial::test(format!("{} (needs {part})", self.name), || Ok(()))
                .with_ignored_flag(true),
            None => {
                let run = self.run;
                Trial::test(self.name, move || {
                    run();
                    Ok(())
                })
                .with_ignored_flag(long)
            }
        }
    }
}

/// Runs the tests that the command line selects.
pub fn run_tests(tests: Vec<Vec<Test>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The tests mostly wait for servers and daemons.
    arguments.test_threads.get_or_insert(4);
    let trials = tests.into_iter().flatten().map(Test::into_trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
