//! Fuzzes the property in `properties/message.rs`.

#![no_main]

#[path = "../properties/message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| message::check(data));
