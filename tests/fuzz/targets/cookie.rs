//! `Set-Cookie` headers, one a line, to tokens. The first line is the `Date`.

#![no_main]

use rememberizer_cli::model;

#[path = "../properties/cookie.rs"]
mod cookie;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cookie::check(data));
