//! Requests of any cut, against one sample after the other.

use std::sync::{Arc, LazyLock};

use promantis::engine::monitor::Plan;
use promantis::engine::{Counts, Engine, Shard};
use promantis::series::{Batch, LabelRun, LabelRunBuf, MetricKind, Sample, stale_marker};
use proptest::prelude::*;

use crate::support::written::Written;

const ARRIVAL_MS: i64 = 1_767_571_200_000;
const STEP_MS: i64 = 15_000;

/// A gauge and a counter of each of two hosts.
const SERIES: [[(&str, &str); 2]; 4] = [
    [("__name__", "depth"), ("host", "a")],
    [("__name__", "depth"), ("host", "b")],
    [("__name__", "jobs_total"), ("host", "a")],
    [("__name__", "jobs_total"), ("host", "b")],
];

/// All methods write everything, short windows raise flags and accept levels.
const CONFIG: &str = "
monitors:
  - name: all
    detectors: [zscore, rolling_zscore, mad, iqr, baseline, static]
    static: {upper: 1000}
    warm_up: 12
    window: {trigger: 1m, fraction: 0.5, recovery: 30s}
    accept_after: 5m
    emit: [score, flag, direction, detectors, expected]
  - name: ahead
    detectors: [mad]
    forecast: {horizons: [10m], upper: 200}
";

/// One value of each series.
type Round = [f64; SERIES.len()];

/// Levels with noise, on a grid and on none, outliers, and what no detector sees.
fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let value = prop_oneof![
        12 => (0..300i32).prop_map(|count| 100.0 + f64::from(count) / 15.0),
        6 => (0..1000i32).prop_map(|cents| 100.0 + f64::from(cents) / 100.0),
        2 => 100.0..120.0f64,
        1 => prop::sample::select(vec![-0.0, 5e3, 1e17, f64::NAN, f64::INFINITY, stale_marker()]),
    ];
    let level = prop_oneof![Just(0.0), Just(0.0), Just(70.0), -1e3..1e3f64];
    let part = (level, prop::collection::vec(prop::array::uniform4(value), 1..80));
    let moved =
        |(level, part): (f64, Vec<Round>)| part.into_iter().map(move |it| it.map(|value| level + value));
    prop::collection::vec(part, 1..5).prop_map(move |parts| parts.into_iter().flat_map(moved).collect())
}

/// Gives an engine `rounds` in requests of as many rounds as `cuts` says, again and again; each has the samples of a
/// round, or of a series, next to each other.
fn derived(rounds: &[Round], cuts: &[usize], by_series: bool) -> (Written, Counts) {
    static PLAN: LazyLock<Arc<Plan>> =
        LazyLock::new(|| promantis::config::parse(CONFIG).expect("the configuration is valid").plan);
    let runs = SERIES.map(|labels| labels.into_iter().collect::<LabelRunBuf>().encode());
    let mut engine = Engine::new(Shard { index: 0, count: 1 }, Arc::clone(&PLAN));
    let (mut derived, mut counts) = (Written::default(), Counts::default());
    let (mut rest, mut time) = (rounds, ARRIVAL_MS);
    for &cut in cuts.iter().cycle() {
        let (now, later) = rest.split_at(cut.min(rest.len()));
        let sample = |(index, value)| Sample { timestamp: time + index as i64 * STEP_MS, value };
        let samples = |series: usize| now.iter().map(|round| round[series]).enumerate().map(sample).collect();
        let samples: [Vec<_>; SERIES.len()] = std::array::from_fn(samples);
        let mut batch = Batch::default();
        let mut push = |series: usize, samples: &[Sample]| {
            batch.push(LabelRun::from_canonical(&runs[series]), MetricKind::Unknown, samples);
        };
        if by_series {
            (0..SERIES.len()).for_each(|series| push(series, &samples[series]));
        } else {
            (0..now.len() * SERIES.len()).for_each(|place| {
                let (round, series) = (place / SERIES.len(), place % SERIES.len());
                push(series, &samples[series][round..=round]);
            });
        }
        add(&mut counts, engine.ingest(&batch, ARRIVAL_MS, &mut derived));
        (rest, time) = (later, time + now.len() as i64 * STEP_MS);
        if rest.is_empty() {
            break;
        }
    }
    derived.0.sort();
    (derived, counts)
}

fn add(all: &mut Counts, some: Counts) {
    all.judged += some.judged;
    all.derived += some.derived;
    all.raised += some.raised;
    all.shifts += some.shifts;
    all.skipped.iter_mut().zip(some.skipped).for_each(|(all, some)| *all += some);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// How a sender cuts its samples into requests changes no bit of what is derived, and no count.
    #[test]
    fn samples_in_requests_of_any_cut_are_scored_as_one_by_one(
        rounds in rounds(),
        cuts in prop::collection::vec(prop_oneof![1..4usize, 1..100usize], 1..6),
        by_series: bool,
    ) {
        let (alone, alone_counts) = derived(&rounds, &[1], false);
        let (cut, cut_counts) = derived(&rounds, &cuts, by_series);
        prop_assert!(alone.0 == cut.0, "{:?}", alone.0.iter().zip(&cut.0).find(|(one, other)| one != other));
        prop_assert_eq!(alone_counts, cut_counts);
    }
}

#[test]
fn the_rounds_that_are_cut_raise_flags_and_accept_levels() {
    let level = |step: u32| if step < 80 { 100.0 } else { 500.0 } + f64::from(step % 7);
    let rounds: Vec<Round> = (0..200).map(|step| [level(step); SERIES.len()]).collect();
    let (_, counts) = derived(&rounds, &[1], false);
    assert!(counts.raised > 0 && counts.shifts > 0, "{counts:?}");
}
