//! The promantis binary. Everything is in the library; see its map.

use std::process::ExitCode;

fn main() -> ExitCode {
    promantis::cli::run()
}
