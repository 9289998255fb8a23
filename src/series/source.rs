//! Who sent a series: one replica of a pair of Prometheus.
//!
//! Two that scrape the same targets send every series twice. They tell themselves apart by external labels,
//! `cluster` for the pair and `__replica__` for the one; the names are those of Cortex and Mimir.
//! `__replica__` is no part of a series' identity, `cluster` is.

use hashbrown::HashTable;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Name of the label that replicas of one cluster share.
pub const CLUSTER: &str = "cluster";

/// Name of the label that tells replicas apart. Never in a canonical run that was decoded.
pub const REPLICA: &str = "__replica__";

/// One replica of a cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Source {
    /// Value of `cluster`; empty where there is no such label.
    pub cluster: Box<str>,
    /// Value of `__replica__`, never empty.
    pub replica: Box<str>,
}

/// The distinct sources of one request, in the order of their first series.
///
/// Costs their names and about 40 bytes for each. One that is asked for twice in a row is not searched for.
#[derive(Default, Debug)]
pub struct Sources {
    list: Vec<Source>,
    index: HashTable<u32>,
    last: u32,
}

impl Sources {
    /// Place in the list of `replica` of `cluster`, which is added where it is new; `None` where that would be
    /// more than `max`.
    pub fn place(&mut self, cluster: &str, replica: &str, max: usize) -> Option<u32> {
        let is_it = |source: &Source| *source.replica == *replica && *source.cluster == *cluster;
        if self.list.get(self.last as usize).is_some_and(is_it) {
            return Some(self.last);
        }
        let hash = hash_of(cluster, replica);
        let known = self.index.find(hash, |&place| is_it(&self.list[place as usize])).copied();
        if known.is_none() && self.list.len() >= max {
            return None;
        }
        self.last = known.unwrap_or_else(|| {
            let place = self.list.len() as u32;
            let list = &self.list;
            self.index.insert_unique(hash, place, |&place| {
                let source = &list[place as usize];
                hash_of(&source.cluster, &source.replica)
            });
            self.list.push(Source { cluster: cluster.into(), replica: replica.into() });
            place
        });
        Some(self.last)
    }

    /// All of them, each once.
    pub fn as_slice(&self) -> &[Source] {
        &self.list
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let names = self.list.iter().map(|source| source.cluster.len() + source.replica.len());
        self.list.capacity() * size_of::<Source>() + self.index.allocation_size() + names.sum::<usize>()
    }
}

fn hash_of(cluster: &str, replica: &str) -> u64 {
    xxh3_64_with_seed(replica.as_bytes(), xxh3_64(cluster.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_keeps_its_place_whatever_comes_between() {
        let mut sources = Sources::default();
        for _ in 0..2 {
            for (place, (cluster, replica)) in (0..).zip([("a", "b"), ("a", "c"), ("", "ab"), ("ab", "c")]) {
                assert_eq!(sources.place(cluster, replica, 4), Some(place));
            }
        }
        assert_eq!(sources.as_slice().len(), 4);
    }

    #[test]
    fn no_more_than_the_limit_are_kept_and_known_ones_stay_known() {
        let mut sources = Sources::default();
        for number in 0..1000 {
            assert_eq!(sources.place("c", &number.to_string(), 1000), Some(number));
        }
        assert_eq!(sources.place("c", "1000", 1000), None);
        assert_eq!(sources.place("c", "123", 1000), Some(123));
        assert_eq!(sources.place("c", "1000", 1000), None);
        assert_eq!(Sources::default().place("c", "0", 0), None);
    }
}
