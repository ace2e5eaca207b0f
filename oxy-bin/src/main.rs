//! The Oxy proxy. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    oxy::cli::main()
}
