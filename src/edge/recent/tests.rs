//! What is shown of a signal, and for how long.

use super::*;
use crate::config;
use crate::engine::derive::Derived;
use crate::engine::sink::Sink;
use crate::engine::{Engine, Shard};
use crate::series::{Batch, LabelRunBuf, MetricKind, Sample, stale_marker};

struct Watching<'a>(MutexGuard<'a, Part>);

impl Sink for Watching<'_> {
    fn derived(&mut self, _: &Derived<'_>) {}
    fn judged(&mut self, judgement: &Judgement<'_>) {
        self.0.observe(judgement);
    }
    fn ended(&mut self, signal: u64, timestamp: i64) {
        self.0.ended(signal, timestamp);
    }
}

fn batch(names: std::ops::Range<usize>, minutes: std::ops::Range<i64>, value: impl Fn(i64) -> f64) -> Batch {
    let mut batch = Batch::default();
    for number in names {
        let name = format!("load{number}");
        let run = [("__name__", name.as_str())].into_iter().collect::<LabelRunBuf>().encode();
        let samples: Vec<_> = minutes
            .clone()
            .map(|minute| Sample { timestamp: minute * 60_000, value: value(minute) })
            .collect();
        batch.push(LabelRun::from_canonical(&run), MetricKind::Unknown, &samples);
    }
    batch
}

fn engine(yaml: &str) -> Engine {
    let plan = config::parse(yaml).expect("the configuration is valid").plan;
    Engine::new(Shard { index: 0, count: 1 }, plan)
}

#[test]
fn a_reload_changes_what_is_foreseen_of_a_view() {
    let recent = Recent::new(1);
    let mut engine = engine("monitors: [{name: m, forecast: {horizons: [1h]}}]");
    engine.ingest(&batch(0..1, 0..30, |m| m as f64), 0, &mut Watching(recent.part(0)));
    let new =
        config::parse("monitors: [{name: m, forecast: {horizons: [4h], upper: 9}}]").expect("valid").plan;
    engine.replace_plan(Arc::clone(&new), &mut Watching(recent.part(0)));
    engine.ingest(&batch(0..1, 30..60, |m| m as f64), 0, &mut Watching(recent.part(0)));
    let (_, views) = recent.signals(|_| true, 0..1);
    assert!(Arc::ptr_eq(&views[0].monitor, &new.monitors[0]), "{:?}", views[0].monitor.forecast);
}

#[test]
fn signals_that_ended_young_make_room() {
    let recent = Recent::new(1);
    let mut engine = engine("limits: {series_max: 10000}");
    engine.ingest(&batch(0..SIGNALS_MAX, 0..3, |_| 1.0), 0, &mut Watching(recent.part(0)));
    engine.ingest(&batch(0..SIGNALS_MAX, 3..4, |_| stale_marker()), 0, &mut Watching(recent.part(0)));
    engine.ingest(&batch(9000..9001, 4..7, |_| 1.0), 0, &mut Watching(recent.part(0)));
    let (total, _) = recent.signals(|labels| labels.get("metric_name") == Some("load9000"), 0..1);
    assert_eq!(total, 1, "2,048 dead signals hold their places for ever");
}

#[test]
fn an_episode_tells_why_it_began_and_ends_with_its_source() {
    let recent = Recent::new(1);
    let mut engine =
        engine("monitors: [{name: m, detectors: [], static: {upper: 5}, warm_up: 0, window: {trigger: 0s}}]");
    engine.ingest(&batch(0..1, 0..3, |minute| 9.0 + minute as f64), 0, &mut Watching(recent.part(0)));
    engine.ingest(&batch(0..1, 3..4, |_| stale_marker()), 0, &mut Watching(recent.part(0)));
    let episodes = recent.episodes();
    let [episode] = episodes.as_slice() else { panic!("one flag rose: {episodes:?}") };
    assert_eq!((episode.since, episode.until, episode.value), (0, Some(180_000), 9.0));
    assert_eq!((episode.by, episode.upper), ("static", 5.0));
    assert!(episode.peak_score > episode.score);
}

#[test]
fn no_more_is_kept_than_was_said() {
    let recent = Recent::new(1);
    let mut engine = engine(
        "limits: {series_max: 10000}\nmonitors: [{detectors: [], static: {upper: 5}, warm_up: 0, window: {trigger: 0s, recovery: 0s}}]",
    );
    let flapping = batch(0..SIGNALS_MAX + 10, 0..4, |minute| if minute % 2 == 0 { 9.0 } else { 1.0 });
    engine.ingest(&flapping, 0, &mut Watching(recent.part(0)));
    assert_eq!(recent.episodes().len(), EPISODES_MAX);
    assert_eq!(recent.signals(|_| true, 0..1).0, SIGNALS_MAX);
    engine.ingest(&batch(0..1, 4..4 + 2 * POINTS_MAX as i64, |_| 1.0), 0, &mut Watching(recent.part(0)));
    let (_, views) = recent.signals(|labels| labels.get("metric_name") == Some("load0"), 0..1);
    assert_eq!(views[0].points.len(), POINTS_MAX);
}

#[test]
fn a_signal_that_was_shown_is_shown_for_good_however_many_others_came_and_went() {
    let mut shown = Shown::default();
    let signal = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for number in 0..5_000 {
        let left = number / 2..number;
        shown.add(signal(number), || left.clone().map(signal));
        assert!((number / 2..=number).all(|number| shown.may_have(signal(number))), "{number}");
    }
    let mut few = Shown::default();
    (0..2_000).for_each(|number| few.add(signal(number), std::iter::empty));
    let known = (2_000..102_000).filter(|&number| few.may_have(signal(number))).count();
    assert!(known < 10_000, "{known} of 100,000 that were not shown are looked for");
}

#[test]
fn what_has_no_room_is_shown_as_soon_as_one_ends() {
    let recent = Recent::new(1);
    let mut engine = engine("limits: {series_max: 10000}");
    let more = SIGNALS_MAX + 1;
    engine.ingest(&batch(0..more, 0..3, |_| 1.0), 0, &mut Watching(recent.part(0)));
    let name = format!("load{SIGNALS_MAX}");
    let shown = || recent.signals(|labels| labels.get("metric_name") == Some(&name), 0..1).0;
    assert_eq!(shown(), 0);
    engine.ingest(&batch(0..1, 3..4, |_| stale_marker()), 0, &mut Watching(recent.part(0)));
    engine.ingest(&batch(SIGNALS_MAX..more, 4..5, |_| 1.0), 0, &mut Watching(recent.part(0)));
    assert_eq!(shown(), 1);
}
