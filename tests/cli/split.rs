//! Stores with a size limit: entries are split and joined again. Parts of different entries are
//! never joined.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::sandbox::{self, Account, Handle, Settings};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Inside, Output, Test, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("split::round_trip", round_trip),
        test(
            "split::incomplete_sets_are_detected",
            incomplete_sets_are_detected,
        ),
        test(
            "split::kill_between_writes_keeps_the_previous_session",
            kill_between_writes_keeps_the_previous_session,
        ),
        test("split::shrinks_and_grows", shrinks_and_grows),
        test("split::reader_during_a_write", reader_during_a_write),
    ]
}

struct Small {
    api: Handle,
    dir: tempfile::TempDir,
    inside: Inside,
}

impl Small {
    fn new(limit: usize) -> Self {
        let api = sandbox::start_on_loopback(Settings::default());
        api.add_account(Account::new(EMAIL, PASSWORD));
        let small = Self {
            api,
            dir: tempfile::tempdir().unwrap(),
            inside: Inside::new(Some(limit)),
        };
        small.login().expect(0);
        small
    }

    fn run(&self, args: &[&str]) -> Output {
        self.inside.run(self.dir.path(), b"", args)
    }

    fn login(&self) -> Output {
        let url = self.api.base_url();
        let args = ["login", EMAIL, "--password-stdin", "--api-url", &url];
        self.inside.run(self.dir.path(), PASSWORD.as_bytes(), &args)
    }

    fn accounts(&self) -> Vec<String> {
        let mut accounts: Vec<_> = self
            .inside
            .entries
            .lock()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        accounts.sort();
        accounts
    }
}

fn round_trip() {
    for limit in [100, 300, 2560] {
        let small = Small::new(limit);
        let parts = small.accounts().len();
        assert_eq!(parts > 1, limit < 2560, "{limit}: {:?}", small.accounts());
        for bytes in small.inside.entries.lock().unwrap().values() {
            assert!(bytes.len() <= limit);
        }
        for _ in 0..5 {
            small.run(&["refresh"]).expect(0);
            small.run(&["whoami"]).expect(0);
            assert!(
                small.accounts().len().abs_diff(parts) <= 1,
                "{:?}",
                small.accounts()
            );
        }
        small.run(&["logout"]).expect(0);
        assert_eq!(small.accounts(), Vec::<String>::new(), "no part is left");
    }
}

fn incomplete_sets_are_detected() {
    let small = Small::new(300);
    let before = small.inside.entries.lock().unwrap().clone();
    let parts: Vec<_> = before.keys().filter(|k| k.contains('.')).cloned().collect();
    assert!(parts.len() >= 2, "{parts:?}");
    for part in &parts {
        small.inside.entries.lock().unwrap().remove(part);
        let output = small.run(&["token"]).expect(6);
        assert_eq!(output.stdout, "");
        assert!(
            output
                .stderr
                .starts_with("error: the stored session is incomplete: part "),
            "{output:?}"
        );
        assert!(
            output
                .stderr
                .contains("is missing\nhint: `rememberizer logout --local` removes it"),
            "{output:?}"
        );
        small.inside.entries.lock().unwrap().clone_from(&before);
    }
    // The part has the right name but belongs to another generation.
    for part in &parts {
        let mut entries = small.inside.entries.lock().unwrap();
        let bytes = entries.get_mut(part).unwrap();
        bytes[0] = b'x';
        drop(entries);
        let output = small.run(&["token"]).expect(6);
        assert!(
            output.stderr.contains("belongs to another generation"),
            "{output:?}"
        );
        small.inside.entries.lock().unwrap().clone_from(&before);
    }
    small.run(&["token"]).expect(0);
    small.inside.entries.lock().unwrap().remove(&parts[0]);
    small.run(&["logout", "--local"]).expect(0);
    assert_eq!(small.accounts(), Vec::<String>::new());
}

/// The store fails after `n` writes, as if the process had been killed. The next read returns a
/// complete session, the previous one or the new one.
fn kill_between_writes_keeps_the_previous_session() {
    let mut whole = 0;
    for writes in 0..40 {
        let small = Small::new(300);
        *small.inside.writes_left.lock().unwrap() = Some(writes);
        // The first error is in the write of the pending marker, before the exchange. Later
        // errors have the same effect as a kill; do not wait for retries.
        let before = small.inside.entries.lock().unwrap().clone();
        let output = if writes < 6 {
            small.run(&["refresh"])
        } else {
            break;
        };
        *small.inside.writes_left.lock().unwrap() = None;
        if output.code == 0 {
            whole += 1;
            continue;
        }
        let read = small.run(&["token", "--refresh-token"]).expect(0);
        assert!(!read.stdout.trim().is_empty());
        assert!(small.inside.entries.lock().unwrap().len() >= before.len().min(2));
        small.login().expect(0);
        small.run(&["logout"]).expect(0);
        assert_eq!(
            small.accounts(),
            Vec::<String>::new(),
            "{writes}: nothing is left behind"
        );
    }
    assert!(whole <= 6);
}

fn shrinks_and_grows() {
    let mut small = Small::new(300);
    small.inside.limit = Some(4000);
    small.run(&["refresh"]).expect(0);
    assert_eq!(small.accounts(), ["default"], "one entry, no part is left");
    small.inside.limit = Some(200);
    small.run(&["refresh"]).expect(0);
    assert!(small.accounts().len() > 2);
    small.run(&["whoami"]).expect(0);
}

/// Readers acquire no lock, so another process may delete parts while they read.
fn reader_during_a_write() {
    let small = Small::new(100);
    let writing = AtomicBool::new(true);
    let read = || {
        let mut failed = Vec::new();
        while writing.load(Ordering::Relaxed) {
            let output = small.run(&["whoami", "--offline"]);
            if output.code != 0 {
                failed.push(output);
            }
        }
        failed
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3).map(|_| scope.spawn(read)).collect();
        let written: Vec<_> = (0..100).map(|_| small.run(&["refresh"]).code).collect();
        writing.store(false, Ordering::Relaxed);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), []);
        }
        assert_eq!(written, [0; 100]);
    });
}
