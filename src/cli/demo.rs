//! Stub.
use super::Failure;
use clap::Args;
#[derive(Args, Debug)]
pub(super) struct Options {}
pub(super) fn run(_options: Options) -> Result<(), Failure> {
    Ok(())
}
