//! Fuzzes the property in `properties/cookie.rs`.

#![no_main]

use rememberizer_cli::model;

#[path = "../properties/cookie.rs"]
mod cookie;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cookie::check(data));
