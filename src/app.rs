//! Composition root: builds every room, joins them, and takes them down in order.

mod filling;
mod gap;
mod keeper;
mod reload;
mod storage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinHandle;

use crate::config::{self, Config, ConfigErrors};
use crate::edge::api::Api;
use crate::edge::disk::Locked;
use crate::edge::journal::{Rules, Syncing};
use crate::edge::receive::Receiver;
use crate::edge::recent::Recent;
use crate::edge::send::{Specs, Targets};
use crate::edge::serve::routes::Routes;
use crate::edge::serve::{Bound, Server};
use crate::edge::shards::{Shards, Surroundings};
use crate::edge::telemetry::Metrics;
use keeper::Keeper;
use reload::Reloader;
use storage::Storage;

/// How long a stop may take in all.
const STOP_MAX: Duration = Duration::from_secs(9);
/// How long requests in flight may take to end after a stop was asked for: a little more than a connection that
/// has sent nothing yet may take to send its head.
const REQUEST_GRACE: Duration = Duration::from_secs(6);
/// How long derived samples may take to reach their targets then, where the journal has those that do not.
const DELIVERY_GRACE: Duration = Duration::from_secs(2);

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
    works: Works,
    reloader: Arc<Reloader>,
    keeper: JoinHandle<()>,
}

/// What judges and sends, whether requests come or not.
#[derive(Debug)]
struct Works {
    around: Surroundings,
    shards: Shards,
    syncing: Syncing,
    _locked: Option<Locked>,
}

impl App {
    /// Starts everything that `config` describes. `source` is where it came from, read again on reload.
    ///
    /// # Errors
    /// When the journal cannot be used, the address cannot be listened on, or the system gives no thread.
    pub async fn start(config: Config, source: Source) -> anyhow::Result<Self> {
        let started = Self::start_unless(std::future::pending(), config, source).await?;
        Ok(started.expect("nobody asked it to stop"))
    }

    /// The same, until `stop` ends: then everything is taken down as far as it was up, what the journal has stays
    /// there, and there is `None`. Who reads the journal at that moment goes on until the runtime ends.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_unless(
        stop: impl Future<Output = ()>,
        config: Config,
        source: Source,
    ) -> anyhow::Result<Option<Self>> {
        let mut stop = pin!(stop);
        let shards = engines(std::thread::available_parallelism().map_or(1, usize::from));
        let metrics = Arc::new(Metrics::new());
        let recent = Recent::new(shards);
        let rules = reload::rules(&config, shards as u16);
        let opening = open(config.clone(), rules, recent.clone(), Arc::clone(&metrics));
        let storage = tokio::select! {
            storage = opening => storage?,
            () = &mut stop => return Ok(None),
        };
        let Storage { journal, judges, saving, syncing, gap, gap_begin, locked } = storage;
        let targets = Targets::start(specs(&config), Arc::clone(&journal), Arc::clone(&metrics));
        let around = Surroundings { journal, targets: Arc::new(targets), recent, metrics };
        let threads = Shards::start(judges, &around, saving.as_ref()).context("start the shard threads")?;
        let works = Works { around, shards: threads, syncing, _locked: locked };
        if let (Some(spec), Some(begin)) = (&config.history, gap_begin) {
            tokio::select! {
                () = filling::fill(spec, &config.plan, &works.around.journal, begin) => {}
                () = &mut stop => {
                    works.stop(Instant::now() + STOP_MAX).await;
                    return Ok(None);
                }
            }
        }
        gap.close();
        let keeper = Keeper {
            around: works.around.clone(),
            snapshots: saving.map(|saving| saving.snapshots),
            max_age: config.journal.max_age,
        };
        let (server, reloader) = serve(config, source, &works.around, shards as u16).await?;
        let keeper = tokio::spawn(keeper.run());
        server.set_ready();
        tracing::info!(listen = %server.addr, shards, "promantis is ready");
        Ok(Some(Self { server, works, reloader, keeper }))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// What its rooms share.
    pub fn around(&self) -> &Surroundings {
        &self.works.around
    }

    /// Reads the configuration again; takes all of it or nothing.
    ///
    /// # Errors
    /// Every error of the file, or which settings need a restart.
    pub fn reload(&self) -> Result<(), String> {
        self.reloader.reload()
    }

    /// Stops, within ten seconds: takes no more requests, judges what was accepted, sends what was derived. What
    /// could not be sent by then stays in the journal, if that lasts.
    pub async fn stop(self) {
        tracing::info!("stopping: no more requests are taken");
        let deadline = Instant::now() + STOP_MAX;
        self.server.shutdown(REQUEST_GRACE).await;
        self.keeper.abort();
        self.works.stop(deadline).await;
        tracing::info!("stopped");
    }
}

impl Works {
    /// Judges what is in the journal, and sends what was derived for as long as that may take.
    async fn stop(self, deadline: Instant) {
        let Self { around, shards, syncing, _locked } = self;
        around.journal.close();
        around.journal.abandon();
        // The threads end because the journal is closed; nothing here can make waiting fail.
        let _ = tokio::task::spawn_blocking(move || shards.join()).await;
        let left = deadline.saturating_duration_since(Instant::now());
        let lasting = around.journal.is_durable();
        let lost = around.targets.drain(if lasting { left.min(DELIVERY_GRACE) } else { left }).await;
        let _ = tokio::task::spawn_blocking(move || syncing.join()).await;
        if lost > 0 {
            tracing::warn!(samples = lost, "derived samples were not delivered before the deadline");
        }
    }
}

/// Shards at most: their number is two bytes in the journal, and far fewer are of use.
const SHARDS_MAX: usize = 1024;

/// How many engines there are on so many processors: half as many, and the threads that receive and send are the other
/// half. To judge costs about as much as all else, and each further engine is one more to be woken, one more look at
/// each request and one more request to each target: a second one on two processors costs a tenth of all time.
fn engines(processors: usize) -> usize {
    processors.div_ceil(2).min(SHARDS_MAX)
}

async fn open(
    config: Config,
    rules: Rules,
    recent: Recent,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Storage> {
    let opened = tokio::task::spawn_blocking(move || Storage::open(&config, &rules, &recent, &metrics));
    opened.await.context("open the journal")?
}

/// Everybody that is sent to.
fn specs(config: &Config) -> Specs {
    Specs { remote_write: config.targets.clone(), forward: config.forward.clone() }
}

async fn serve(
    config: Config,
    source: Source,
    around: &Surroundings,
    shards: u16,
) -> anyhow::Result<(Bound, Arc<Reloader>)> {
    let metrics = Arc::clone(&around.metrics);
    let receiver = Receiver::new(config.receive.clone(), Arc::clone(&around.journal), Arc::clone(&metrics));
    let (listen, receive) = (config.listen, config.receive.clone());
    let api = Api::new(around.recent.clone(), Arc::clone(&metrics));
    let reloader = Arc::new(Reloader::new(config, source, around.clone(), shards));
    let reload = Arc::clone(&reloader);
    let routes = Routes::new(receiver, metrics, Arc::new(move || reload.reload()));
    let server = Server::start(&listen.to_string(), &receive, api.mount(routes)).await;
    let server = server.inspect_err(|_| around.journal.close())?;
    Ok((server, reloader))
}
