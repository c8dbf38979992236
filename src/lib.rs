//! Keeps an account session with the Rememberizer API.

pub mod model;
