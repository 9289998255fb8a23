//! What is done once a second: time passes for engines, what nobody needs is let go, limits are kept.

use std::sync::Arc;
use std::time::Duration;

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
        // While the disk fails no time passes: nothing comes, either.
        let _ = journal.append_tick(unix_ms());
        targets.tell();
        self.trim();
        let max_age = i64::try_from(self.max_age.as_millis()).unwrap_or(i64::MAX);
        let Some(before) = journal.pressed(unix_ms().saturating_sub(max_age)) else {
            return journal.hold(None);
        };
        if let Some(snapshots) = &self.snapshots
            && snapshots.needed() < before
        {
            snapshots.ask();
        }
        let held = targets.make_room(before);
        journal.hold(held.then_some(before));
        self.trim();
    }

    fn trim(&self) {
        let needed = self.snapshots.as_ref().map_or(u64::MAX, |snapshots| snapshots.needed());
        self.around.journal.trim(needed);
    }
}
