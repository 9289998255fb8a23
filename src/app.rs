//! Composition root: builds every room, joins them, and takes them down in order.

mod reload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinHandle;

use crate::config::{self, Config, ConfigErrors};
use crate::edge::api::Api;
use crate::edge::clock::unix_ms;
use crate::edge::journal::Journal;
use crate::edge::receive::Receiver;
use crate::edge::recent::Recent;
use crate::edge::send::Targets;
use crate::edge::serve::routes::Routes;
use crate::edge::serve::{Bound, Server};
use crate::edge::shards::{Shards, Surroundings};
use crate::edge::telemetry::Metrics;
use reload::Reloader;

/// How long requests in flight may take to end after a stop was asked for: a little more than a connection that
/// has sent nothing yet may take to send its head.
const REQUEST_GRACE: Duration = Duration::from_secs(6);
/// How long derived samples may take to reach their targets then.
const DELIVERY_GRACE: Duration = Duration::from_secs(10);
/// How often time passes for engines that get no request.
const TICK: Duration = Duration::from_secs(1);

/// Where a configuration comes from, at the start and at every reload.
#[derive(Clone, Default, Debug)]
pub struct Source {
    /// The text itself, or where it stands.
    pub origin: Origin,
    /// Where to listen, whatever the file says.
    pub listen: Option<SocketAddr>,
}

/// Where the text of a configuration stands.
#[derive(Clone, Default, Debug)]
pub enum Origin {
    /// Nowhere: every default.
    #[default]
    Defaults,
    /// In a file, which is read again on reload.
    File(PathBuf),
    /// In the program.
    Text(&'static str),
}

impl From<Option<PathBuf>> for Origin {
    fn from(path: Option<PathBuf>) -> Self {
        path.map_or(Self::Defaults, Self::File)
    }
}

impl Source {
    /// Reads and checks it.
    ///
    /// # Errors
    /// Every error of the file at once.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        let config = match &self.origin {
            Origin::Defaults => config::load(None),
            Origin::File(path) => config::load(Some(path)),
            Origin::Text(text) => config::parse(text),
        }?;
        Ok(Config { listen: self.listen.unwrap_or(config.listen), ..config })
    }
}

/// A running promantis.
#[derive(Debug)]
pub struct App {
    server: Bound,
    around: Surroundings,
    shards: Shards,
    reloader: Arc<Reloader>,
    ticker: JoinHandle<()>,
}

impl App {
    /// Starts everything that `config` describes. `source` is where it came from, read again on reload.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the system gives no thread.
    pub async fn start(config: Config, source: Source) -> anyhow::Result<Self> {
        let shards = std::thread::available_parallelism().map_or(1, usize::from);
        let metrics = Arc::new(Metrics::new());
        let around = Surroundings {
            journal: Journal::in_memory(config.journal.max_bytes, shards, Arc::clone(&metrics)),
            targets: Arc::new(Targets::start(config.targets.clone(), shards, Arc::clone(&metrics))),
            recent: Recent::new(shards),
            metrics: Arc::clone(&metrics),
        };
        let threads = Shards::start(shards, &config.plan, &around).context("start the shard threads")?;
        let receiver =
            Receiver::new(config.receive.clone(), Arc::clone(&around.journal), Arc::clone(&metrics));
        let (listen, receive) = (config.listen, config.receive.clone());
        let api = Api::new(around.recent.clone(), Arc::clone(&metrics));
        let reloader = Arc::new(Reloader::new(
            config,
            source,
            around.clone(),
            u16::try_from(shards).unwrap_or(u16::MAX),
        ));
        let reload = Arc::clone(&reloader);
        let routes = Routes::new(receiver, metrics, Arc::new(move || reload.reload()));
        let server = Server::start(&listen.to_string(), &receive, api.mount(routes)).await;
        let server = server.inspect_err(|_| around.journal.close())?;
        let ticker = tokio::spawn(tick(Arc::clone(&around.journal)));
        server.set_ready();
        tracing::info!(listen = %server.addr, shards, "promantis is ready");
        Ok(Self { server, around, shards: threads, reloader, ticker })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// What its rooms share.
    pub fn around(&self) -> &Surroundings {
        &self.around
    }

    /// Reads the configuration again; takes all of it or nothing.
    ///
    /// # Errors
    /// Every error of the file, or which settings need a restart.
    pub fn reload(&self) -> Result<(), String> {
        self.reloader.reload()
    }

    /// Stops: takes no more requests, judges what was accepted, sends what was derived.
    pub async fn stop(self) {
        tracing::info!("stopping: no more requests are taken");
        self.server.shutdown(REQUEST_GRACE).await;
        self.ticker.abort();
        self.around.journal.close();
        let shards = self.shards;
        // The threads end because the journal is closed; nothing here can make waiting fail.
        let _ = tokio::task::spawn_blocking(move || shards.join()).await;
        let lost = self.around.targets.drain(DELIVERY_GRACE).await;
        if lost > 0 {
            tracing::warn!(samples = lost, "derived samples were not delivered before the deadline");
        }
        tracing::info!("stopped");
    }
}

async fn tick(journal: Arc<Journal>) {
    let mut interval = tokio::time::interval(TICK);
    loop {
        interval.tick().await;
        if journal.append_tick(unix_ms()).is_err() {
            return;
        }
    }
}
