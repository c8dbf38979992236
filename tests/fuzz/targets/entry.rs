//! What a store holds for a profile to a session, whole or in parts. The first

#![no_main]

#[path = "../properties/entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::check(data));
