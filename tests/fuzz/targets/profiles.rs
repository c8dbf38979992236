//! Fuzzes the property in `properties/profiles.rs`.

#![no_main]

use rememberizer_cli::model;

#[path = "../properties/profiles.rs"]
mod profiles;

libfuzzer_sys::fuzz_target!(|data: &[u8]| profiles::check(data));
