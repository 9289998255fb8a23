//! `promantis serve`: the main job.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::runtime::{Builder, Runtime};

use super::{Failure, Signals, huge_pages, load};
use crate::app::{App, Source};
use crate::config::Config;

/// How long a disk may hold up the end of the process. Whatever is still read or written then, a crash may cut, too.
const DISK_GRACE: Duration = Duration::from_secs(1);

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
    if let Err(error) = huge_pages::ask() {
        tracing::debug!(%error, "large pages are not asked for");
    }
    let source = Source { origin: options.config.into(), listen: options.listen };
    let config = load(&source)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(serve(config, source));
    runtime.shutdown_timeout(DISK_GRACE);
    ended
}

/// Half as many threads as there are processors: the others are the engines'. A thread more is woken whenever there might
/// be something for it, which on two processors costs a twelfth of all time.
fn runtime() -> anyhow::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads((processors / 2).max(1)).enable_all().build().context("start the runtime")
}

async fn serve(config: Config, source: Source) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let Some(app) = App::start_unless(signals.stop(), config, source).await? else {
        tracing::info!("stopped before it was ready");
        return Ok(());
    };
    // A reload that fails has been logged and counted; the old configuration stays.
    signals.until_stopped(|| drop(app.reload())).await;
    app.stop().await;
    Ok(())
}
