//! Review: what a judged sample costs with and without the views of `edge::recent`.
use promantis::edge::recent::{Part, Recent};
use promantis::engine::derive::Sink;
use promantis::engine::signal::Judgement;
use promantis::engine::{Engine, Shard};
use promantis::series::{Batch, LabelRun, LabelRunBuf, MetricKind, Sample};
use std::sync::MutexGuard;

struct Watching<'a>(Option<MutexGuard<'a, Part>>);
impl Sink for Watching<'_> {
    fn derived(&mut self, _: &[&[u8]], _: Sample) {}
    fn judged(&mut self, judgement: &Judgement<'_>) {
        if let Some(part) = &mut self.0 {
            part.observe(judgement);
        }
    }
    fn ended(&mut self, _: u64, _: i64) {}
}

fn batch(series: usize, minutes: std::ops::Range<i64>, value: impl Fn(i64) -> f64) -> Batch {
    let mut batch = Batch::default();
    for number in 0..series {
        let name = format!("load{number}");
        let run = [("__name__", name.as_str())].into_iter().collect::<LabelRunBuf>().encode();
        let samples: Vec<_> =
            minutes.clone().map(|m| Sample { timestamp: m * 60_000, value: value(m) }).collect();
        batch.push(LabelRun::from_canonical(&run), MetricKind::Unknown, &samples);
    }
    batch
}

fn main() {
    let yaml = "limits: {series_max: 60000}\nmonitors: [{name: m, detectors: [zscore], warm_up: 4, window: {trigger: 0s}}]";
    for (series, high, views) in [
        (2_000, 1.0, false),
        (2_000, 1.0, true),
        (20_000, 1.0, false),
        (20_000, 1.0, true),
        (900, 1e6, false),
        (900, 1e6, true),
        (2_000, 1e6, false),
        (2_000, 1e6, true),
    ] {
        let plan = promantis::config::parse(yaml).expect("valid").plan;
        let recent = Recent::new(1);
        let mut engine = Engine::new(Shard { index: 0, count: 1 }, plan);
        let sink = || Watching(views.then(|| recent.part(0)));
        engine.ingest(&batch(series, 0..10, |m| (m % 2) as f64), 0, &mut sink());
        let more = batch(series, 10..30, |m| high * (1.0 + (m % 2) as f64) - 1.0);
        let begin = std::time::Instant::now();
        engine.ingest(&more, 0, &mut sink());
        let each = begin.elapsed().as_nanos() as usize / (20 * series);
        println!(
            "{series} series, values up to {high:e}, flagged {}, views {views}: {each} ns a sample",
            engine.flagged_count()
        );
    }
}
