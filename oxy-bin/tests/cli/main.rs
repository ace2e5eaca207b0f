//! The binary from outside: what it is told, what it prints, what it serves, how it ends.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which clippy does not know for such"
)]

mod access_log;
mod admin;
mod defaults;
mod https;
mod one_liners;
mod reload;
mod samples;
mod settings;
mod signals;
mod support;
mod tls;
