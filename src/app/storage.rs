//! The journal and the snapshots where the configuration wants them, and what a start finds there.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::gap::Gap;
use crate::config::Config;
use crate::edge::clock::unix_ms;
use crate::edge::disk::{Disk, Folder, Locked, MemoryDisk, descriptors};
use crate::edge::journal::{self, Journal, Rules, Settings, Syncing, WAITING_BYTES_MAX};
use crate::edge::judge::Judge;
use crate::edge::limits::{Place, SyncMode};
use crate::edge::recent::Recent;
use crate::edge::recovery::{self, Recovered, Replaying, Report};
use crate::edge::shards::Saving;
use crate::edge::snapshot::Snapshots;
use crate::edge::telemetry::Metrics;

/// What lasts, or would if it were not in memory.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) journal: Arc<Journal>,
    pub(super) judges: Vec<Judge>,
    /// Where snapshots go, unless everything is in memory.
    pub(super) saving: Option<Saving>,
    pub(super) syncing: Syncing,
    /// Remembers the gap before this start.
    pub(super) gap: Gap,
    /// When that begins, if it is to be filled.
    pub(super) gap_begin: Option<i64>,
    /// Held as long as the folder is in use.
    pub(super) locked: Option<Locked>,
}

impl Storage {
    /// Opens it, and takes again what has to be.
    pub(super) fn open(
        config: &Config,
        rules: &Rules,
        recent: &Recent,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let (journal, snapshots, locked) = disks(&config.journal.place)?;
        let gap = Gap::on(top(&config.journal.place)?);
        let lasting = locked.is_some();
        let settings = Settings {
            max_bytes: config.journal.max_bytes,
            waiting_max: WAITING_BYTES_MAX,
            sync: if lasting { config.journal.sync } else { SyncMode::Never },
            readers: rules.shards(),
            lasting,
        };
        let snapshots = Snapshots::on(snapshots, Arc::clone(metrics)).context("read the snapshots")?;
        let replaying = Replaying::Threads(recent.clone());
        let wanted = (rules, unix_ms());
        let recovered = recovery::recover(journal, &snapshots, &settings, wanted, (&replaying, metrics));
        let Recovered { journal, judges, report } = recovered.context(located(&config.journal.place))?;
        if lasting {
            tell(&report);
            warn_of_descriptors(&settings);
        }
        let gap_begin = report.last_arrival.filter(|_| config.history.is_some()).map(|last| gap.begin(last));
        let journal = Arc::new(journal);
        let saving = Saving { snapshots: Arc::new(snapshots), interval: config.journal.snapshot_interval };
        Ok(Self {
            syncing: Syncing::start(&journal).context("start the thread that syncs")?,
            journal,
            judges,
            saving: lasting.then_some(saving),
            gap,
            gap_begin,
            locked,
        })
    }
}

type Disks = (Arc<dyn Disk>, Arc<dyn Disk>, Option<Locked>);

fn disks(place: &Place) -> anyhow::Result<Disks> {
    let Place::Folder(path) = place else {
        return Ok((Arc::new(MemoryDisk::default()), Arc::new(MemoryDisk::default()), None));
    };
    let make =
        |path: &Path| Folder::make(path).with_context(|| format!("make the folder {}", path.display()));
    let locked = make(path)?.lock().with_context(|| located(place))?;
    let (journal, snapshots) = (make(&path.join("journal"))?, make(&path.join("snapshots"))?);
    Ok((Arc::new(journal), Arc::new(snapshots), Some(locked)))
}

/// Where `disks` are, which have been made.
fn top(place: &Place) -> anyhow::Result<Arc<dyn Disk>> {
    Ok(match place {
        Place::Memory => Arc::new(MemoryDisk::default()),
        Place::Folder(path) => Arc::new(Folder::existing(path).with_context(|| located(place))?),
    })
}

/// Descriptors that are spared for all that is no segment of the journal: connections, above all.
const OTHER_DESCRIPTORS: u64 = 512;

/// Better now than when the journal is full.
fn warn_of_descriptors(settings: &Settings) {
    let needed = journal::segments_max(settings.max_bytes, settings.sync).saturating_add(OTHER_DESCRIPTORS);
    let limit = descriptors::limit();
    if needed > limit {
        tracing::warn!(
            needed,
            limit,
            "a journal of `journal.max_bytes` needs more open files than the system allows: raise `ulimit -Hn`, or `LimitNOFILE` of systemd"
        );
    }
}

fn located(place: &Place) -> String {
    match place {
        Place::Memory => "start with an empty journal in memory".to_owned(),
        Place::Folder(path) => format!("use the journal in {}", path.display()),
    }
}

fn tell(report: &Report) {
    let Report { replayed, unreadable, took, .. } = report;
    tracing::info!(replayed, took_ms = took.as_millis() as u64, "the journal is open");
    if *unreadable > 0 {
        tracing::warn!(records = unreadable, "records of the journal cannot be read and were passed over");
    }
    if report.lost > 0 {
        tracing::warn!(
            records = report.lost,
            "the journal has lost its newest records, which a snapshot had seen"
        );
    }
    if report.without_snapshot > 0 {
        let shards = report.without_snapshot;
        tracing::warn!(
            shards,
            "no snapshot can be used: what was learned before the journal's begin is lost"
        );
    }
    if let Some(before) = report.shards_before {
        tracing::info!(before, "the number of shards changed: series were divided anew, nothing was dropped");
    }
    for monitor in &report.dropped_monitors {
        tracing::info!(monitor, "the monitor is gone or changed: what it had learned is dropped");
    }
}
