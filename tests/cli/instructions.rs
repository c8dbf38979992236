//! Limits the number of instructions for a help text and for a completion. Unlike times, these
//! numbers do not depend on the load of the machine.

use std::process::Command;

use crate::support::{Part, Store, Test, World, test};

pub fn tests() -> Vec<Test> {
    vec![
        test("instructions::help_and_completion", help_and_completion)
            .needs(&[Part::Command("valgrind")]),
    ]
}

/// The limits are 1.5 times the measured numbers of the unoptimised build that the tests use:
/// 11.9 and 2.5 million (optimised: 1.4 and 1.0 million).
const LIMITS: [(&[&str], bool, u64); 2] = [
    (&["--help"], false, 18_000_000),
    (&["--", "rememberizer", "lo"], true, 3_700_000),
];

fn help_and_completion() {
    let world = World::new(Store::File);
    for (args, is_completion, limit) in LIMITS {
        let mut command = Command::new("valgrind");
        world.set_environment(&mut command);
        command
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(World::program())
            .args(args);
        if is_completion {
            command.env("REMEMBERIZER_COMPLETE", "fish");
        }
        let output = command.output().unwrap();
        assert!(
            output.status.success() && !output.stdout.is_empty(),
            "{output:?}"
        );
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let count = stderr
            .lines()
            .find_map(|line| line.split("Collected : ").nth(1));
        let count: u64 = count.expect("a count").trim().parse().unwrap();
        println!("{args:?}: {count} instructions, at most {limit}");
        assert!(
            count < limit,
            "{args:?} takes {count} instructions, more than {limit}"
        );
        assert!(count > limit / 20, "{args:?} does something");
    }
}
