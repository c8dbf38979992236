//! Keeps an account session with the Rememberizer API.
#![forbid(unsafe_code)]
