//! Those that take turns under the load: promantis, in one way or another, and installed peers.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;

use super::http::free_addr;
use super::interrupt::Interrupt;
use super::load::{Amount, Leg, Load, Places};
use super::page::{Histogram, Page};
use super::scenario::Scenario;
use super::server::{Program, Server};

/// How long it may take until all that was sent is judged and delivered.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a server that does not tell when it is done may go on with what it does in the background.
const BACKGROUND_MAX: Duration = Duration::from_secs(10);
/// How often a server is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// CPU seconds between two looks below which a server is idle.
const IDLE: f64 = 0.025;
/// How many more requests are made ready than the last leg says will be sent.
const READY_MORE: f64 = 1.2;

/// An installed program that takes remote write.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(super) enum Peer {
    /// Stores what it takes.
    Prometheus,
    /// Passes it on, to the sink.
    Vmagent,
    /// Stores what it takes.
    #[value(name = "victoriametrics")]
    VictoriaMetrics,
}

/// How promantis keeps its journal.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(super) enum Journal {
    /// On disk, synced before an answer.
    Batch,
    /// On disk, synced once a second.
    Interval,
    /// On disk, never synced.
    Never,
    /// Not at all.
    Memory,
}

/// Who is measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// This program, or another build of it.
    Promantis {
        program: PathBuf,
        journal: Journal,
    },
    Peer(Peer),
}

impl Kind {
    fn program(&self, scenario: &Scenario, folder: &Path) -> anyhow::Result<Program> {
        let addr = free_addr().context("find a free port")?;
        let data = folder.join("data").display().to_string();
        let sink = scenario.sink_url();
        let (executable, package, arguments, ready) = match self {
            Self::Promantis { program, journal } => {
                let config = folder.join("promantis.yml");
                fs::write(&config, scenario.configuration(*journal)).context("write the configuration")?;
                let config = format!("--config={}", config.display());
                let arguments = vec!["serve".into(), "--log=warn".into(), config, format!("--listen={addr}")];
                (program.clone(), "", arguments, "/-/ready")
            }
            Self::Peer(Peer::Prometheus) => {
                let config = folder.join("prometheus.yml");
                fs::write(&config, "{}\n").context("write the configuration")?;
                let arguments = vec![
                    format!("--config.file={}", config.display()),
                    format!("--storage.tsdb.path={data}"),
                    format!("--web.listen-address={addr}"),
                    "--web.enable-remote-write-receiver".into(),
                ];
                ("prometheus".into(), "prometheus", arguments, "/-/ready")
            }
            Self::Peer(Peer::Vmagent) => {
                let arguments = vec![
                    format!("-httpListenAddr={addr}"),
                    format!("-remoteWrite.url={sink}"),
                    format!("-remoteWrite.tmpDataPath={data}"),
                ];
                ("vmagent".into(), "victoria-metrics", arguments, "/health")
            }
            Self::Peer(Peer::VictoriaMetrics) => {
                let arguments = vec![format!("-httpListenAddr={addr}"), format!("-storageDataPath={data}")];
                ("victoria-metrics".into(), "victoria-metrics", arguments, "/health")
            }
        };
        Ok(Program { executable, package, arguments, cores: scenario.cores, addr, ready })
    }
}

/// One of those that are measured: it runs from the first round to the last.
pub(super) struct Entrant {
    pub(super) name: String,
    pub(super) kind: Kind,
    server: Server,
    places: Places,
    /// Samples that it was sent in all.
    sent: u64,
    /// Samples a second that it took in the last leg.
    rate: f64,
    /// Bytes of memory by which it grew until all series were known, for each of them.
    pub(super) bytes_per_series: f64,
}

/// What one leg cost.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) samples: u64,
    /// From the first request until all was judged and delivered.
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    /// How long each request took, from its first byte to the answer.
    pub(super) answers: Vec<Duration>,
    pub(super) refused: u64,
    pub(super) judged: f64,
    pub(super) derived: f64,
    pub(super) syncs: f64,
    pub(super) judgement: Histogram,
}

impl Entrant {
    /// Starts it in a folder of its own, and sends it so many samples of each series, at `rate` samples a second or as
    /// fast as it takes them.
    ///
    /// # Errors
    /// When it does not start, or does not take the load.
    pub(super) fn enter(
        name: String,
        kind: Kind,
        (scenario, load): (&Scenario, &mut Load),
        (steps, rate): (u64, Option<f64>),
    ) -> anyhow::Result<Self> {
        let folder = scenario.folder.join(&name);
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        let program = kind.program(scenario, &folder)?;
        let server = Server::start(&program, &folder, &scenario.interrupt)?;
        let places = load.start();
        let resident = server.resident_bytes()?;
        let mut entrant = Self { name, kind, server, places, sent: 0, rate: 0.0, bytes_per_series: 0.0 };
        entrant.leg(load, (Amount::Steps(steps), rate), &scenario.interrupt)?;
        let grown = entrant.server.resident_bytes()?.saturating_sub(resident);
        entrant.bytes_per_series = grown as f64 / load.series() as f64;
        Ok(entrant)
    }

    /// Sends it the load for so long, at `rate` samples a second or as fast as it takes them.
    ///
    /// # Errors
    /// When it does not take the load, or not all of it reaches the sink.
    pub(super) fn measure(
        &mut self,
        load: &mut Load,
        (span, rate): (Duration, Option<f64>),
        interrupt: &Interrupt,
    ) -> anyhow::Result<Measured> {
        self.leg(load, (Amount::Time(span), rate), interrupt)
    }

    fn leg(
        &mut self,
        load: &mut Load,
        (amount, rate): (Amount, Option<f64>),
        interrupt: &Interrupt,
    ) -> anyhow::Result<Measured> {
        let samples = match amount {
            Amount::Time(span) => rate.unwrap_or(self.rate * READY_MORE) * span.as_secs_f64(),
            Amount::Steps(_) => 0.0,
        };
        let ready = load.prepare(&self.places, samples, interrupt)?;
        let page = self.server.page()?;
        let cpu = self.server.cpu_seconds()?;
        let begin = Instant::now();
        let leg = Leg { addr: self.server.addr, amount, rate, interrupt };
        let sent = load.send(&mut self.places, ready, &leg);
        // Whoever ended says why; that it could not be reached then says less.
        let sent = self.server.check().and(sent);
        let sent = sent.with_context(|| format!("send to {}", self.name))?;
        self.sent += sent.samples;
        let done = self.settle(begin, interrupt).with_context(|| format!("wait for {}", self.name))?;
        let cpu_seconds = self.server.cpu_seconds()? - cpu;
        let seconds = done.as_secs_f64();
        self.rate = sent.samples as f64 / seconds;
        let mut measured = Measured {
            samples: sent.samples,
            seconds,
            cpu_seconds,
            answers: sent.answers,
            refused: sent.refused,
            ..Measured::default()
        };
        measured.compare(&page, &self.server.page()?);
        Ok(measured)
    }

    /// Waits until all that was sent is done, and tells how long after `begin` it was.
    fn settle(&mut self, begin: Instant, interrupt: &Interrupt) -> anyhow::Result<Duration> {
        let (mut done, mut cpu) = (None, self.server.cpu_seconds()?);
        let silence = Instant::now();
        loop {
            interrupt.check()?;
            self.server.check()?;
            if done.is_none() && self.is_done()? {
                done = Some(begin.elapsed());
            }
            let looked = begin.elapsed();
            sleep(LOOK);
            let now = self.server.cpu_seconds()?;
            let idle = now - cpu < IDLE;
            cpu = now;
            match (&self.kind, done) {
                (Kind::Promantis { .. }, Some(done)) if idle || silence.elapsed() > BACKGROUND_MAX => {
                    return Ok(done);
                }
                (Kind::Peer(_), _) if idle || silence.elapsed() > BACKGROUND_MAX => return Ok(looked),
                _ => ensure!(
                    silence.elapsed() < PATIENCE,
                    "not all is judged and delivered after {PATIENCE:?}"
                ),
            }
        }
    }

    /// Whether all is judged and what is derived delivered. Peers do not tell.
    fn is_done(&self) -> anyhow::Result<bool> {
        if matches!(self.kind, Kind::Peer(_)) {
            return Ok(false);
        }
        let page = self.server.page()?;
        let derived = page.value("promantis_derived_samples_total");
        let delivered = page.value("promantis_remote_write_samples_total");
        let received = page.value("promantis_samples_received_total");
        ensure!(received <= self.sent as f64, "{received} samples were received, {} sent", self.sent);
        ensure!(page.value("promantis_derived_dropped_total") == 0.0, "derived samples were dropped");
        Ok(received == self.sent as f64
            && page.value("promantis_journal_waiting_bytes") == 0.0
            && delivered >= derived)
    }
}

impl Measured {
    /// Takes what a promantis counted between two pages.
    fn compare(&mut self, before: &Page, after: &Page) {
        let since = |name: &str| after.value(name) - before.value(name);
        self.judged = since("promantis_samples_judged_total");
        self.derived = since("promantis_remote_write_samples_total");
        self.syncs = since("promantis_journal_sync_seconds_count");
        let name = "promantis_judgement_seconds";
        self.judgement = after.histogram(name).since(&before.histogram(name));
    }

    pub(super) fn per_cpu_second(&self) -> f64 {
        self.samples as f64 / self.cpu_seconds.max(0.01)
    }

    pub(super) fn per_second(&self) -> f64 {
        self.samples as f64 / self.seconds
    }
}
