//! Fuzzes the property in `properties/cookie_text.rs`.

#![no_main]

use rememberizer_cli::model;

#[path = "../properties/cookie_text.rs"]
mod cookie_text;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cookie_text::check(data));
