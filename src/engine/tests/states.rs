//! States that an engine must find its way out of.

use super::*;

#[test]
fn a_hard_limit_is_never_accepted_as_normal() {
    let mut limited = monitor("m", "load");
    limited.detectors = vec![DetectorKind::Static];
    limited.static_limits = StaticLimits { upper: Some(10.0), lower: None };
    let mut bench = Bench::new(vec![limited]);
    bench.send("load", &[], 0, &[5.0; 10]);
    bench.take();
    let counts = bench.send("load", &[], 10, &[50.0; 200]);
    assert_eq!((counts.raised, counts.shifts), (1, 0), "{:?}", flags(&bench.take()));
}

#[test]
fn a_crossed_hard_limit_does_not_teach_the_others_wrong_values() {
    // Before the flag rises (trigger window), what is far outside the learned band is learned whole,
    // only because the limit spoke.
    let learned = |upper: Option<f64>| {
        let mut limited = monitor("m", "load");
        limited.policy.trigger_ms = 60 * MINUTE;
        limited.policy.fraction = 1.0;
        limited.static_limits.upper = upper;
        limited.detectors = if upper.is_some() {
            vec![DetectorKind::ZScore, DetectorKind::Static]
        } else {
            vec![DetectorKind::ZScore]
        };
        limited.emit = Emit { expected: true, flag: false, ..limited.emit };
        let mut bench = Bench::new(vec![limited]);
        let calm: Vec<_> = (0..50).map(|minute| f64::from(minute % 2)).collect();
        bench.send("load", &[], 0, &calm);
        bench.send("load", &[], 50, &[1e6, 1e6]);
        bench.take();
        bench.send("load", &[], 52, &[0.0]);
        bench.take().lines().next().map(str::to_owned)
    };
    assert_eq!(learned(Some(1e5)), learned(None));
}

#[test]
fn one_sample_after_the_warm_up_is_not_a_window_full() {
    let mut waits = monitor("m", "load");
    waits.policy.trigger_ms = 5 * MINUTE;
    waits.policy.fraction = 0.6;
    waits.policy.warm_up = 6;
    let mut bench = Bench::new(vec![waits]);
    bench.send("load", &[], 0, &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    let counts = bench.send("load", &[], 6, &[90.0, 1.0]);
    assert_eq!(counts.raised, 0, "one of seven samples in seven minutes is outside");
}

#[test]
fn one_sample_after_a_restart_is_not_a_window_full() {
    let mut waits = monitor("m", "load");
    waits.policy.trigger_ms = 5 * MINUTE;
    waits.policy.fraction = 0.6;
    let mut bench = Bench::new(vec![waits]);
    let calm: Vec<_> = (0..50).map(|minute| f64::from(minute % 2)).collect();
    bench.send("load", &[], 0, &calm);
    bench.send("load", &[], 50, &[stale_marker()]);
    let counts = bench.send("load", &[], 51, &[90.0, 1.0]);
    assert_eq!(counts.raised, 0, "one sample of the last five minutes is not three minutes");
}

#[test]
fn senders_that_disagree_about_a_type_do_not_end_series_each_minute() {
    let mut bench = Bench::new(vec![monitor("m", "{}")]);
    bench.metadata("requests", MetricKind::Counter);
    bench.send("requests", &[], 0, &[1.0, 2.0, 4.0, 5.0, 9.0, 10.0]);
    assert!(bench.take().contains("rate"));
    // Another exporter exposes the same name without a type.
    bench.metadata("requests", MetricKind::Unknown);
    bench.send("requests", &[], 6, &[17.0]);
    bench.metadata("requests", MetricKind::Counter);
    bench.send("requests", &[], 7, &[19.0]);
    let text = bench.take();
    assert!(!text.contains("stale"), "{text}");
}

#[test]
fn a_type_of_remote_write_2_that_comes_late_counts_too() {
    let mut bench = Bench::new(vec![monitor("m", "{}")]);
    let run = [("__name__", "requests")].into_iter().collect::<LabelRunBuf>().encode();
    let mut send = |minute: i64, kind| {
        let mut batch = Batch::default();
        let sample = Sample { timestamp: minute * MINUTE, value: (minute * minute) as f64 };
        batch.push(LabelRun::from_canonical(&run), kind, &[sample]);
        bench.engine.ingest(&batch, minute * MINUTE, &mut bench.lines)
    };
    send(0, MetricKind::Unknown);
    send(1, MetricKind::Counter);
    let counts = send(2, MetricKind::Counter);
    for minute in 3..9 {
        send(minute, MetricKind::Counter);
    }
    assert!(bench.take().contains(r#"stat="rate""#), "{counts:?}");
}

#[test]
fn the_end_of_a_signal_is_told_even_if_nothing_was_written_of_it() {
    let mut bench = Bench::new(vec![monitor("m", "load")]);
    bench.send("load", &[], 0, &[1.0, 1.0, 1.0]);
    assert_eq!((bench.lines.judged, bench.take().as_str()), (3, ""));
    bench.send("load", &[], 3, &[stale_marker()]);
    assert_eq!(bench.lines.ended, 1, "who was told of judgements is told of the end");
}

#[test]
fn only_methods_of_the_monitor_are_named_and_all_of_them_end() {
    let mut watched = monitor("m", "up");
    watched.detectors = vec![DetectorKind::Mad];
    watched.emit = Emit { flag: false, detectors: true, ..watched.emit };
    let mut bench = Bench::new(vec![watched]);
    bench.send("up", &[], 0, &[1.0; 12]);
    bench.send("up", &[], 12, &[stale_marker()]);
    let text = bench.take();
    assert!(!text.contains("rolling_zscore"), "{text}");
}

#[test]
fn what_comes_after_an_eviction_is_newer_than_its_marker() {
    let mut bench = Bench::new(vec![monitor("m", "{}")]);
    bench.send("load", &[], 0, &[1.0, 2.0, 1.0]);
    // The sender of `load` is cut off for 70 minutes while another goes on; then its backlog arrives.
    bench.send("other", &[], 0, &[1.0; 71]);
    bench.engine.tick(71 * MINUTE, &mut bench.lines);
    let run = [("__name__", "load")].into_iter().collect::<LabelRunBuf>().encode();
    let backlog: Vec<_> = (3..60)
        .map(|minute| Sample { timestamp: minute * MINUTE, value: f64::from(minute as i32 % 2) })
        .collect();
    let mut batch = Batch::default();
    batch.push(LabelRun::from_canonical(&run), MetricKind::Unknown, &backlog);
    bench.engine.ingest(&batch, 72 * MINUTE, &mut bench.lines);
    let text = bench.take();
    let times: Vec<i64> = text
        .lines()
        .filter(|line| line.contains("\"load\""))
        .filter_map(|line| line.rsplit('@').next()?.parse().ok())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn a_family_name_of_any_length_takes_no_memory() {
    let mut families = Families::default();
    let said = FamilyMetadata { family: "x".repeat(1 << 20).into(), kind: MetricKind::Gauge };
    families.learn(&said);
    assert_eq!(families.kind_of(&said.family), MetricKind::Unknown, "a name of a mebibyte is kept");
}

#[test]
fn a_batch_accounts_for_its_family_names() {
    let mut batch = Batch::default();
    batch.push_metadata(FamilyMetadata { family: "x".repeat(1 << 20).into(), kind: MetricKind::Gauge });
    assert!(batch.memory_bytes() > 1 << 20, "{}", batch.memory_bytes());
}

#[test]
fn a_flag_that_no_method_judges_any_more_teaches_nothing() {
    // The hour that follows has only ever had one value, so the baseline is silent in it.
    let mut weekly = monitor("m", "load");
    weekly.detectors = vec![DetectorKind::Baseline];
    weekly.policy.accept_after_ms = i64::MAX;
    let mut bench = Bench::new(vec![weekly]);
    let week = 7 * 24 * 60;
    let day: Vec<_> = (0..60).map(|minute| f64::from(minute % 2)).collect();
    bench.send("load", &[], 0, &day);
    bench.send("load", &[], 60, &[0.0; 60]);
    bench.send("load", &[], week, &[0.0; 30]);
    bench.send("load", &[], week + 30, &[900.0; 90]);
    assert_eq!(bench.engine.flagged_count(), 1);
    bench.take();
    // A week later the silent hour is judged by what it learned while the flag was up.
    bench.send("load", &[], 2 * week, &[0.0, 1.0]);
    bench.take();
    bench.send("load", &[], 2 * week + 90, &[900.0]);
    assert_eq!(flags(&bench.take()), Vec::<&str>::new(), "the hour learned from a raised flag");
}
