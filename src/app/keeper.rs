//! What is done once a second: time passes for engines, what nobody needs is let go, limits are kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::edge::clock::unix_ms;
use crate::edge::shards::Surroundings;
use crate::edge::snapshot::Snapshots;

/// How often.
const TICK: Duration = Duration::from_secs(1);

/// Keeps the journal within its limits.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    pub(super) around: Surroundings,
    pub(super) snapshots: Option<Arc<Snapshots>>,
    pub(super) max_age: Duration,
}

impl Keeper {
    /// Goes on until the journal is closed.
    pub(super) async fn run(self) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if self.around.journal.is_closed() {
                return;
            }
            let keeper = self.clone();
            // A disk may take its time, and the runtime's threads have none.
            let kept = tokio::task::spawn_blocking(move || keeper.keep()).await;
            if let Err(error) = kept {
                tracing::error!(%error, "the journal could not be looked after");
            }
        }
    }

    fn keep(&self) {
        let Surroundings { journal, targets, .. } = &self.around;
        let now = journal.time(unix_ms(), Instant::now());
        // While the disk fails no time passes: nothing comes, either.
        let _ = journal.append_tick(now);
        targets.tell();
        self.trim();
        self.drop_outdated(now);
        self.make_room();
    }

    /// Lets go what came too long before `now`. A target that must not lose it keeps it: as long as there is room, its
    /// age is no reason to refuse anybody anything.
    fn drop_outdated(&self, now: i64) {
        let max_age = i64::try_from(self.max_age.as_millis()).unwrap_or(i64::MAX);
        if let Some(before) = self.around.journal.outdated(now.saturating_sub(max_age)) {
            self.let_go(before);
        }
    }

    /// Lets go the oldest until there is room again, or it has to stay.
    fn make_room(&self) {
        let journal = &self.around.journal;
        while let Some(before) = journal.pressed() {
            let held = self.let_go(before);
            journal.hold(held.then_some(before));
            // Whether it was enough for a full disk shows when that is tried again.
            if journal.first() < before || !journal.is_writable() {
                return;
            }
        }
        journal.hold(None);
    }

    /// Lets go what is below the sequence `before`. Returns whether a target that must not lose anything has still to get
    /// something of it.
    fn let_go(&self, before: u64) -> bool {
        if let Some(snapshots) = &self.snapshots
            && snapshots.needed() < before
        {
            snapshots.ask();
        }
        let held = self.around.targets.make_room(before);
        self.trim();
        held
    }

    fn trim(&self) {
        let needed = self.snapshots.as_ref().map_or(u64::MAX, |snapshots| snapshots.needed());
        self.around.journal.trim(needed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::edge::disk::failing::{FailingDisk, Fault};
    use crate::edge::journal::{self, Full, Journal, Received, Settings};
    use crate::edge::limits::SyncMode;
    use crate::edge::log::Log;
    use crate::edge::recent::Recent;
    use crate::edge::send::spec::{TargetSpec, WhenFull};
    use crate::edge::send::{Specs, Targets};
    use crate::edge::telemetry::Metrics;
    use crate::series::Batch;
    use crate::wire::decode::Protocol;

    const MAX_BYTES: u64 = 8 << 20;
    /// Bytes of a request. Two fit into a segment.
    const REQUEST_BYTES: usize = 100 << 10;

    /// A journal on `disk` that is forwarded to somebody who takes nothing, and its keeper.
    fn keeper(disk: &FailingDisk, when_full: WhenFull) -> Keeper {
        let metrics = Arc::new(Metrics::new());
        let opened = Log::open(Arc::new(disk.clone()), journal::options(MAX_BYTES, SyncMode::Batch));
        let sync = SyncMode::Batch;
        let settings =
            Settings { max_bytes: MAX_BYTES, waiting_max: 1 << 20, sync, readers: 0, lasting: true };
        let journal = Journal::over(opened.expect("it opens"), &settings, Arc::clone(&metrics));
        let journal = Arc::new(journal.expect("the disk is well"));
        let spec = TargetSpec::new(hyper::Uri::from_static("http://127.0.0.1:9/"), "dead");
        let specs = Specs { remote_write: Vec::new(), forward: vec![TargetSpec { when_full, ..spec }] };
        let targets = Arc::new(Targets::start(specs, Arc::clone(&journal), Arc::clone(&metrics)));
        let around = Surroundings { journal, targets, recent: Recent::new(1), metrics };
        Keeper { around, snapshots: None, max_age: Duration::from_secs(24 * 3600) }
    }

    fn append(keeper: &Keeper, arrival: i64) -> Result<u64, Full> {
        let body = Bytes::from(vec![7; REQUEST_BYTES]);
        let request = Received { protocol: Protocol::V1, body, latest: i64::MAX, forward: true };
        keeper.around.journal.append_request(arrival, Instant::now(), &request, Batch::default())
    }

    /// Appends until no more is taken. Returns how many were.
    fn fill(keeper: &Keeper) -> usize {
        std::iter::repeat_with(|| append(keeper, unix_ms())).take_while(Result::is_ok).count()
    }

    fn dropped(keeper: &Keeper) -> u64 {
        let labels = vec![("target", "dead".to_owned()), ("outcome", "queue_full".to_owned())];
        keeper.around.metrics.remote_write_requests.get_or_create(&labels).get()
    }

    /// One segment was let go each second, so that a target which is away stopped everybody as soon as more came.
    #[tokio::test]
    async fn all_that_is_too_much_is_let_go_at_once_and_no_more() {
        let keeper = keeper(&FailingDisk::default(), WhenFull::DropOldest);
        let fits = fill(&keeper);
        keeper.keep();
        let bytes = keeper.around.journal.bytes();
        assert!((MAX_BYTES / 4 * 3..MAX_BYTES / 8 * 7).contains(&bytes), "{bytes} bytes are left");
        assert_eq!(dropped(&keeper) as usize, fits - (bytes as usize) / REQUEST_BYTES);
        assert!(append(&keeper, unix_ms()).is_ok());
    }

    #[tokio::test]
    async fn what_may_not_be_lost_stays_and_input_is_refused_until_it_is_taken() {
        let keeper = keeper(&FailingDisk::default(), WhenFull::HoldBack);
        fill(&keeper);
        keeper.keep();
        assert_eq!((append(&keeper, unix_ms()), dropped(&keeper)), (Err(Full::HeldBack), 0));
        assert_eq!(keeper.around.journal.first(), 0);
    }

    /// What was too old for a target that must not lose it had all input refused, though there was room.
    #[tokio::test]
    async fn what_is_too_old_is_dropped_where_it_may_be_and_holds_back_nobody() {
        for when_full in [WhenFull::DropOldest, WhenFull::HoldBack] {
            let keeper = keeper(&FailingDisk::default(), when_full);
            assert!((0..10).all(|arrival| append(&keeper, arrival).is_ok()));
            let young = append(&keeper, unix_ms()).expect("there is room");
            keeper.keep();
            assert!(append(&keeper, unix_ms()).is_ok(), "{when_full:?}");
            let drops = when_full == WhenFull::DropOldest;
            assert_eq!(dropped(&keeper) > 5, drops, "{when_full:?}");
            let first = keeper.around.journal.first();
            assert!(first < young && (first > 5) == drops, "{when_full:?}: from {first} on");
        }
    }

    /// A disk with less room than the journal may take was never left: there was nothing that pressed.
    #[tokio::test]
    async fn a_disk_that_is_full_before_the_journal_is_has_the_oldest_let_go() {
        for when_full in [WhenFull::DropOldest, WhenFull::HoldBack] {
            let disk = FailingDisk::default();
            let keeper = keeper(&disk, when_full);
            disk.set(Some(Fault::Over(2 << 20)));
            for round in 0..3 {
                fill(&keeper);
                assert!(matches!(append(&keeper, unix_ms()), Err(Full::Unwritable(_))), "{round}");
                keeper.keep();
                let drops = when_full == WhenFull::DropOldest;
                assert_eq!(keeper.around.journal.sync().is_ok(), drops, "{when_full:?}, {round}");
                assert_eq!(append(&keeper, unix_ms()).is_ok(), drops, "{when_full:?}, {round}");
                assert_eq!(dropped(&keeper) > 0, drops, "{when_full:?}, {round}");
            }
        }
    }
}
