//! What senders said about metric families apart from samples (remote write 1.0).

use std::collections::BTreeMap;

use super::transform::{family_names, only_rises};
use crate::series::{FamilyMetadata, MetricKind};

/// How many families are remembered; what comes later is left to suffixes.
const FAMILIES_MAX: usize = 20_000;

/// Bytes of a name that is remembered; no longer one can be a series' own.
const NAME_BYTES_MAX: usize = 4096;

/// Type by family name, at most 20,000 of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Families(BTreeMap<Box<str>, MetricKind>);

impl Families {
    /// Remembers what is said first, since senders that disagree do so in every round of metadata. Tells whether
    /// it changes how series of the family are observed.
    pub(super) fn learn(&mut self, said: &FamilyMetadata) -> bool {
        let known = self.0.get(&said.family).copied();
        let full = self.0.len() >= FAMILIES_MAX || said.family.len() > NAME_BYTES_MAX;
        if known.is_some() || said.kind == MetricKind::Unknown || full {
            return false;
        }
        self.0.insert(said.family.clone(), said.kind);
        ["", "_total", "_bucket", "_count", "_sum"].iter().any(|suffix| {
            let name = format!("{}{suffix}", said.family);
            only_rises(&name, MetricKind::Unknown) != only_rises(&name, said.kind)
        })
    }

    /// Takes what was remembered by another. Tells whether there was room for it.
    pub(super) fn take(&mut self, family: Box<str>, kind: MetricKind) -> bool {
        let fits = self.0.len() < FAMILIES_MAX && family.len() <= NAME_BYTES_MAX;
        if fits {
            self.0.entry(family).or_insert(kind);
        }
        fits
    }

    /// What is remembered, by name.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, MetricKind)> {
        self.0.iter().map(|(family, &kind)| (&**family, kind))
    }

    /// Type of the family that a series called `name` belongs to.
    pub(super) fn kind_of(&self, name: &str) -> MetricKind {
        family_names(name).find_map(|name| self.0.get(name)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(families: &mut Families, family: &str, kind: MetricKind) -> bool {
        families.learn(&FamilyMetadata { family: family.into(), kind })
    }

    #[test]
    fn only_news_that_changes_an_observation_is_news() {
        let mut families = Families::default();
        assert!(!learn(&mut families, "latency_seconds", MetricKind::Histogram));
        assert!(learn(&mut families, "requests", MetricKind::Counter));
        assert!(!learn(&mut families, "requests", MetricKind::Counter));
        assert!(learn(&mut families, "jobs_total", MetricKind::Gauge));
        assert_eq!(families.kind_of("requests_total"), MetricKind::Counter);
        assert_eq!(families.kind_of("latency_seconds_bucket"), MetricKind::Histogram);
        assert_eq!(families.kind_of("unheard_of"), MetricKind::Unknown);
    }

    #[test]
    fn families_are_bounded() {
        let mut families = Families::default();
        for number in 0..FAMILIES_MAX + 10 {
            learn(&mut families, &format!("family{number}"), MetricKind::Gauge);
        }
        assert_eq!(families.0.len(), FAMILIES_MAX);
    }
}
