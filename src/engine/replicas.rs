//! Which replica of each cluster counts: one of those that send the same.
//!
//! The first that is seen counts until it was not seen for half a minute of arrival time and another one is; then that
//! one counts, and still does when the first comes back. Every engine sees every batch, so all shards decide
//! alike. The rule is that of Cortex and Mimir, each cluster and each batch for itself.
//!
//! At most 1,000 clusters: of a further one all replicas count, and what they repeat is met as repeated
//! samples of one series. Costs nothing for batches that name no replica.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::series::Source;

/// How long the elected replica may be away before another one takes over, in milliseconds of arrival time.
const FAILOVER_MS: i64 = 30_000;

/// A cluster of which nothing came for so long is forgotten.
const FORGET_MS: i64 = 24 * 60 * 60 * 1000;

/// How many clusters are remembered.
const CLUSTERS_MAX: usize = 1_000;

/// The elected replica of each cluster.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(super) struct Replicas(BTreeMap<Box<str>, Elected>);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Elected {
    replica: Box<str>,
    /// Arrival time of its newest batch.
    seen: i64,
}

/// Which sources of one batch count, by their place in it.
#[derive(Debug)]
pub(super) struct Election(Vec<bool>);

impl Election {
    /// Whether series of `source` count. Those of none do.
    #[inline]
    pub(super) fn has(&self, source: Option<u32>) -> bool {
        source.is_none_or(|place| self.0.get(place as usize).copied().unwrap_or(true))
    }
}

impl Replicas {
    /// Elects among the sources of a batch that arrived at `arrival`.
    pub(super) fn elect(&mut self, sources: &[Source], arrival: i64) -> Election {
        // Whoever stands in the same batch as the elected one has no claim, even if it stands first.
        for source in sources {
            if let Some(elected) = self.0.get_mut(&source.cluster)
                && elected.replica == source.replica
            {
                elected.seen = arrival;
            }
        }
        Election(sources.iter().map(|source| self.counts(source, arrival)).collect())
    }

    /// Forgets clusters of which nothing came for a day.
    pub(super) fn forget(&mut self, arrival: i64) {
        self.0.retain(|_, elected| arrival.saturating_sub(elected.seen) < FORGET_MS);
    }

    /// Whether `source`, seen at `arrival`, is the one of its cluster, or is from now on.
    fn counts(&mut self, source: &Source, arrival: i64) -> bool {
        let Some(elected) = self.0.get_mut(&source.cluster) else {
            if self.0.len() < CLUSTERS_MAX {
                let elected = Elected { replica: source.replica.clone(), seen: arrival };
                self.0.insert(source.cluster.clone(), elected);
            }
            return true;
        };
        if elected.replica == source.replica {
            return true;
        }
        // A clock that was set back costs one more wait, and not as long as it was set back.
        elected.seen = elected.seen.min(arrival);
        if arrival.saturating_sub(elected.seen) < FAILOVER_MS {
            return false;
        }
        *elected = Elected { replica: source.replica.clone(), seen: arrival };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(names: &str) -> Vec<Source> {
        let source = |name: &str| {
            let (cluster, replica) = name.split_once('/').expect("cluster/replica");
            Source { cluster: cluster.into(), replica: replica.into() }
        };
        names.split_whitespace().map(source).collect()
    }

    /// Each line is an arrival time and the sources of one batch, and then those of them that count.
    fn check(batches: &[(i64, &str, &str)]) {
        let mut replicas = Replicas::default();
        for &(arrival, sent, expected) in batches {
            let election = replicas.elect(&sources(sent), arrival);
            let names = (0..).zip(sent.split_whitespace());
            let counting: Vec<_> =
                names.filter(|(place, _)| election.has(Some(*place))).map(|(_, name)| name).collect();
            assert_eq!(counting.join(" "), expected, "{sent:?} at {arrival}");
        }
    }

    #[test]
    fn the_first_counts_until_it_was_away_for_half_a_minute() {
        check(&[
            (0, "eu/a", "eu/a"),
            (10_000, "eu/b", ""),
            (12_000, "eu/a", "eu/a"),
            (41_999, "eu/b", ""),
            (42_000, "eu/b", "eu/b"),
            (42_001, "eu/a", ""), // The other is the one now.
            (72_000, "eu/a", "eu/a"),
        ]);
    }

    #[test]
    fn clusters_elect_each_for_itself() {
        check(&[
            (0, "eu/a us/b", "eu/a us/b"),
            (1, "us/a eu/b eu/a us/b /a", "eu/a us/b /a"),
            (20_000, "us/b", "us/b"),
            (30_001, "us/a eu/b /b", "eu/b /b"),
        ]);
    }

    #[test]
    fn the_elected_counts_wherever_it_stands_in_a_batch() {
        check(&[(0, "eu/a", "eu/a"), (90_000, "eu/b eu/a", "eu/a"), (180_000, "eu/c eu/b", "eu/c")]);
    }

    #[test]
    fn a_clock_that_is_set_back_costs_one_more_wait() {
        check(&[
            (9_000_000, "eu/a", "eu/a"),
            (1_000, "eu/b", ""),
            (30_999, "eu/b", ""),
            (31_000, "eu/b", "eu/b"),
            (i64::MIN, "eu/a", ""),
            (i64::MAX, "eu/a", "eu/a"),
        ]);
    }

    #[test]
    fn clusters_are_bounded_and_beyond_that_all_replicas_count() {
        let mut replicas = Replicas::default();
        for number in 0..CLUSTERS_MAX {
            assert!(replicas.elect(&sources(&format!("c{number}/a")), 0).has(Some(0)));
        }
        let further = replicas.elect(&sources("more/a more/b c7/b"), 0);
        assert_eq!(further.0, [true, true, false]);
        assert_eq!(replicas.0.len(), CLUSTERS_MAX);
    }

    #[test]
    fn a_cluster_that_was_quiet_for_a_day_makes_room() {
        let mut replicas = Replicas::default();
        replicas.elect(&sources("old/a"), 0);
        replicas.elect(&sources("young/a"), 1);
        replicas.forget(FORGET_MS - 1);
        assert_eq!(replicas.0.len(), 2);
        replicas.forget(FORGET_MS);
        assert_eq!(replicas.0.keys().map(|cluster| &**cluster).collect::<Vec<_>>(), ["young"]);
    }

    #[test]
    fn a_saved_election_goes_on_where_it_was() {
        let mut replicas = Replicas::default();
        replicas.elect(&sources("eu/a us/b"), 5);
        let saved = postcard::to_stdvec(&replicas).expect("a map can be written");
        let mut restored: Replicas = postcard::from_bytes(&saved).expect("what was written");
        assert_eq!(postcard::to_stdvec(&restored).expect("a map can be written"), saved);
        assert_eq!(restored.elect(&sources("eu/b us/b"), 30_004).0, [false, true]);
    }
}
