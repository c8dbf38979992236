//! `profiles.json` to profiles: the readers agree with each other.

#![no_main]

use rememberizer_cli::model;

#[path = "../properties/profiles.rs"]
mod profiles;

libfuzzer_sys::fuzz_target!(|data: &[u8]| profiles::check(data));
