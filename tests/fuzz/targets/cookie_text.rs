//! Cookies that a person copied out of a browser, in any form.

#![no_main]

use rememberizer_cli::model;

#[path = "../properties/cookie_text.rs"]
mod cookie_text;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cookie_text::check(data));
