//! Stub.
use clap::Args;
use super::Failure;
#[derive(Args, Debug)]
pub(super) struct Options {}
pub(super) fn run(_options: Options) -> Result<(), Failure> { Ok(()) }
