//! `promantis serve`: the main job.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, Signals, load, runtime};
use crate::app::{App, Source};

/// What `serve` can be told.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Configuration file. Without it: one monitor over every series, listening on 127.0.0.1:9900.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, whatever the configuration says.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,
}

pub(super) fn run(options: Options) -> Result<(), Failure> {
    let source = Source { origin: options.config.into(), listen: options.listen };
    let config = load(&source)?;
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let app = App::start(config, source).await?;
        // A reload that fails has been logged and counted; the old configuration stays.
        signals.until_stopped(|| drop(app.reload())).await;
        app.stop().await;
        Ok(())
    })
}
