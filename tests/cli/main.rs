//! Tests of the built program: as a process, at a terminal and in shells, with the sandbox as
//! the server and a real keyring.
//!
//! If a test needs a tool that is missing, it counts as ignored and its name includes the tool.
//! With `CI=true`, it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "tests"
)]

mod api;
mod captcha;
mod clocks;
mod desktops;
mod doctor;
mod ends;
mod faults;
mod files;
mod fleet;
mod fleet_file;
mod helpers;
mod hostile;
mod hostile_text;
mod inputs;
mod instructions;
mod jobs;
mod json;
mod keyring;
mod layers;
mod life;
mod logout;
mod machine;
mod manual;
mod meanwhile;
mod missing;
mod names;
mod network;
mod outcomes;
mod outside;
mod package;
mod parallel;
mod parsers;
mod profiles;
mod prompts;
mod readme;
mod recipes;
mod renew;
mod rotate;
#[path = "../sandbox/server/mod.rs"]
mod sandbox;
mod secrets;
mod sent;
mod sessions;
mod shells;
mod signals;
mod split;
mod support;
mod takeover;
mod takeover_cookies;
mod takeover_ends;
mod takeover_pipe;
mod token_file;
mod windows;

// The files of `src/` that `parsers` includes import this as `crate::model`.
use rememberizer_cli::model;

fn main() -> std::process::ExitCode {
    support::run_tests(vec![
        api::tests(),
        captcha::tests(),
        clocks::tests(),
        desktops::tests(),
        doctor::tests(),
        ends::tests(),
        faults::tests(),
        files::tests(),
        fleet::tests(),
        fleet_file::tests(),
        helpers::tests(),
        hostile::tests(),
        hostile_text::tests(),
        inputs::tests(),
        instructions::tests(),
        jobs::tests(),
        json::tests(),
        keyring::tests(),
        layers::tests(),
        life::tests(),
        logout::tests(),
        machine::tests(),
        manual::tests(),
        meanwhile::tests(),
        missing::tests(),
        names::tests(),
        network::tests(),
        outcomes::tests(),
        outside::tests(),
        package::tests(),
        parallel::tests(),
        parsers::tests(),
        profiles::tests(),
        prompts::tests(),
        readme::tests(),
        recipes::tests(),
        renew::tests(),
        rotate::tests(),
        secrets::tests(),
        sent::tests(),
        sessions::tests(),
        shells::tests(),
        signals::tests(),
        split::tests(),
        takeover::tests(),
        takeover_cookies::tests(),
        takeover_ends::tests(),
        takeover_pipe::tests(),
        token_file::tests(),
        windows::tests(),
    ])
}
