//! Fuzzes the property in `properties/entry.rs`.

#![no_main]

#[path = "../properties/entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::check(data));
