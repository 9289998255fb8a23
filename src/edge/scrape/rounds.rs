//! From pages to batches, and which series live from one to the next.
//!
//! Source: what Prometheus does with a target, <https://prometheus.io/docs/concepts/jobs_instances/>.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::series::{
    Batch, FamilyMetadata, LabelRun, LabelRunBuf, METRIC_NAME, MetricKind, Sample, SeriesHash, stale_marker,
};
use crate::wire::exposition::{Exposed, Page};

/// Label runs by their hash, in an order that does not depend on the process.
type Live = BTreeMap<SeriesHash, Box<[u8]>>;

/// What is remembered of one target. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Rounds {
    job: Arc<str>,
    instance: Arc<str>,
    /// Series of the last page that had no timestamps of their own.
    live: Arc<Live>,
}

/// One scrape as a request.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) batch: Batch,
    /// What lives after it, to be committed once the batch was taken.
    pub(super) live: Live,
    /// Samples that repeat a series of the page.
    pub(super) repeated: usize,
    /// Series that got a stale marker.
    pub(super) ended: usize,
}

impl Rounds {
    pub(super) fn new(job: &str, instance: &str) -> Self {
        Self { job: job.into(), instance: instance.into(), live: Arc::default() }
    }

    /// Makes a batch of what was scraped at `now`, in Unix milliseconds; without a page the target is down.
    ///
    /// Series with timestamps of their own get no stale marker when they are gone, as in Prometheus.
    pub(super) fn assemble(&self, page: Option<&Page>, now: i64, took: Duration) -> Round {
        let mut round = Round { batch: Batch::default(), live: Live::new(), repeated: 0, ended: 0 };
        let mut reported = BTreeSet::new();
        for (name, value) in report(page, took) {
            let run = self.labels(name, &[]).encode();
            let run = LabelRun::from_canonical(&run);
            reported.insert(SeriesHash::of(run));
            round.batch.push(run, MetricKind::Gauge, &[Sample { timestamp: now, value }]);
        }
        if let Some(page) = page {
            page.kinds.iter().for_each(|said| round.batch.push_metadata(FamilyMetadata::clone(said)));
            page.samples.iter().for_each(|exposed| self.expose(exposed, now, &reported, &mut round));
        }
        for (_, run) in self.live.iter().filter(|(hash, _)| !round.live.contains_key(hash)) {
            let end = Sample { timestamp: now, value: stale_marker() };
            round.batch.push(LabelRun::from_canonical(run), MetricKind::Unknown, &[end]);
            round.ended += 1;
        }
        round
    }

    /// Takes `live` for what the next scrape is compared with.
    pub(super) fn commit(&mut self, live: Live) {
        self.live = Arc::new(live);
    }

    fn expose(&self, exposed: &Exposed, now: i64, reported: &BTreeSet<SeriesHash>, round: &mut Round) {
        let bytes = self.labels(&exposed.name, &exposed.labels).encode();
        let run = LabelRun::from_canonical(&bytes);
        let hash = SeriesHash::of(run);
        let repeats = reported.contains(&hash) || round.live.contains_key(&hash);
        if repeats && exposed.timestamp.is_none() {
            round.repeated += 1;
            return;
        }
        let sample = Sample { timestamp: exposed.timestamp.unwrap_or(now), value: exposed.value };
        round.batch.push(run, MetricKind::Unknown, &[sample]);
        if exposed.timestamp.is_none() {
            round.live.insert(hash, bytes);
        }
    }

    /// Labels of a series: those of the target win, and what the exporter said is kept under another name.
    fn labels(&self, name: &str, exposed: &[(String, String)]) -> LabelRunBuf {
        let mut labels = LabelRunBuf::default();
        labels.set(METRIC_NAME, name).set("job", &self.job).set("instance", &self.instance);
        let (clashing, others): (Vec<_>, Vec<_>) =
            exposed.iter().partition(|(name, _)| matches!(name.as_str(), "job" | "instance"));
        for (name, value) in others {
            labels.set(name, value);
        }
        for (name, value) in clashing {
            let mut name = format!("exported_{name}");
            while exposed.iter().any(|(taken, _)| *taken == name) {
                name.insert_str(0, "exported_");
            }
            labels.set(&name, value);
        }
        labels
    }
}

fn report(page: Option<&Page>, took: Duration) -> [(&'static str, f64); 3] {
    [
        ("up", f64::from(u8::from(page.is_some()))),
        ("scrape_duration_seconds", took.as_secs_f64()),
        ("scrape_samples_scraped", page.map_or(0, |page| page.samples.len()) as f64),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::is_stale_marker;
    use crate::wire::decode::Limits;
    use crate::wire::exposition::{Format, parse};

    const NOW: i64 = 1_700_000_000_000;

    fn page(text: &str) -> Page {
        let page = parse(text.replace("; ", "\n").as_bytes(), Format::Text, &Limits::default(), NOW);
        assert_eq!(page.rejected.lines, 0, "{:?}", page.rejected);
        page
    }

    /// The batch in words, without what is said of every scrape and without `job` and `instance`.
    fn show(batch: &Batch) -> String {
        let mut lines = Vec::new();
        for series in batch.iter() {
            assert_eq!(
                (series.labels.get("job"), series.labels.get("instance")),
                (Some("j"), Some("host:1"))
            );
            let name = series.labels.metric_name().unwrap_or_default();
            if name.starts_with("scrape_") {
                continue;
            }
            let labels =
                series.labels.iter().filter(|it| !["job", "instance", METRIC_NAME].contains(&it.name));
            let labels: String = labels.map(|it| format!(" {}={}", it.name, it.value)).collect();
            let Sample { timestamp, value } = series.samples[0];
            let value = if is_stale_marker(value) { "stale".to_owned() } else { value.to_string() };
            lines.push(format!("{name}{labels} {value}@{}", timestamp - NOW));
        }
        lines.join("; ")
    }

    /// Scrapes one page after the other, each a second later; `down` is no page, and `full` before a page means that
    /// the journal did not take it.
    fn check(scrapes: &[(&str, &str)]) {
        let mut rounds = Rounds::new("j", "host:1");
        for (index, (text, expected)) in scrapes.iter().enumerate() {
            let (text, taken) = text.strip_prefix("full ").map_or((*text, true), |text| (text, false));
            let page = (text != "down").then(|| page(text));
            let now = NOW + 1000 * index as i64;
            let round = rounds.assemble(page.as_ref(), now, Duration::from_millis(250));
            assert_eq!(show(&round.batch), *expected, "scrape {index}: {text}");
            if taken {
                rounds.commit(round.live);
            }
        }
    }

    #[test]
    fn a_series_that_vanished_is_ended_once() {
        check(&[
            ("a 1; b 2", "up 1@0; a 1@0; b 2@0"),
            ("a 3", "up 1@1000; a 3@1000; b stale@1000"),
            ("a 4", "up 1@2000; a 4@2000"),
            ("b 5", "up 1@3000; b 5@3000; a stale@3000"),
        ]);
    }

    #[test]
    fn all_series_of_a_target_that_is_down_are_ended_once() {
        check(&[
            ("a 1", "up 1@0; a 1@0"),
            ("down", "up 0@1000; a stale@1000"),
            ("down", "up 0@2000"),
            ("a 2", "up 1@3000; a 2@3000"),
        ]);
    }

    #[test]
    fn what_ended_is_told_again_when_the_journal_was_full() {
        check(&[
            ("a 1", "up 1@0; a 1@0"),
            ("full b 1", "up 1@1000; b 1@1000; a stale@1000"),
            ("b 2", "up 1@2000; b 2@2000; a stale@2000"),
        ]);
    }

    #[test]
    fn labels_of_the_target_win_and_those_of_the_exporter_are_kept() {
        check(&[(r#"a{job="x",z="1"} 1"#, "up 1@0; a exported_job=x z=1 1@0")]);
        let both = r#"a{instance="x",exported_instance="y"} 1"#;
        check(&[(both, "up 1@0; a exported_exported_instance=x exported_instance=y 1@0")]);
    }

    #[test]
    fn a_repeated_series_is_passed_over_unless_it_is_stamped() {
        check(&[("a 1; a 2; a 3 1700000000000", "up 1@0; a 1@0; a 3@0")]);
        check(&[("up 7; scrape_duration_seconds 7", "up 1@0")]);
        let round = Rounds::new("j", "host:1").assemble(Some(&page("a 1; a 2; up 3")), NOW, Duration::ZERO);
        assert_eq!(round.repeated, 2);
    }

    #[test]
    fn a_series_with_its_own_timestamps_gets_no_stale_marker() {
        check(&[("a 1 1699999999000", "up 1@0; a 1@-1000"), ("b 1", "up 1@1000; b 1@1000")]);
    }

    #[test]
    fn every_scrape_says_how_it_went() {
        let said = |page: Option<&Page>| {
            let round = Rounds::new("j", "host:1").assemble(page, NOW, Duration::from_millis(250));
            round.batch.samples().iter().take(3).map(|sample| sample.value).collect::<Vec<_>>()
        };
        assert_eq!(said(Some(&page("a 1; b 2"))), [1.0, 0.25, 2.0]);
        assert_eq!(said(None), [0.0, 0.25, 0.0]);
    }

    #[test]
    fn types_are_passed_on() {
        let round = Rounds::new("j", "host:1").assemble(Some(&page("# TYPE a counter")), NOW, Duration::ZERO);
        let said = FamilyMetadata { family: "a".into(), kind: MetricKind::Counter };
        assert_eq!(round.batch.metadata(), [said]);
    }
}
