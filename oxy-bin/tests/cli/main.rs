//! The binary from outside: what it is told, what it prints, what it serves, how it ends.

mod access_log;
mod admin;
mod defaults;
mod one_liners;
mod settings;
mod signals;
mod support;
