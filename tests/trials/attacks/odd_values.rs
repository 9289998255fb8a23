//! Labels without measure, numbers that are none, and times at both ends.

use std::time::{Duration, Instant};

use promantis::wire::prompb::v1::{Label, Sample, TimeSeries};

use super::client::{Connection, now_ms, series, v1};
use super::figures::mib;
use super::sink::RemoteEnd;
use super::victim::Victim;

const PATIENCE: Duration = Duration::from_secs(20);
/// How far ahead of now a derived sample may be, milliseconds.
const AHEAD_MS_MAX: i64 = 60_000;
const MEMORY_MAX: u64 = 128 << 20;
const MONITOR: &str = "monitors: [{name: all, detectors: [static], static: {upper: 5}}]\n";

/// One odd series, sent with a good one.
struct Case {
    name: &'static str,
    odd: TimeSeries,
    status: u16,
    /// Whether the good series beside it is taken.
    beside: bool,
}

fn case(name: &'static str, odd: TimeSeries, status: u16) -> Case {
    Case { name, odd, status, beside: true }
}

fn labels(count: usize) -> TimeSeries {
    let label = |index: usize| Label { name: format!("l{index:05}").into(), value: b"x".to_vec() };
    let mut odd = series(&[("__name__", "odd")], 1.0, now_ms());
    odd.labels.extend((0..count).map(label));
    odd
}

fn labelled(name: &[u8], value: Vec<u8>) -> TimeSeries {
    let mut odd = series(&[("__name__", "odd")], 1.0, now_ms());
    odd.labels.push(Label { name: name.to_vec(), value });
    odd
}

/// One series, with one sample for each value in the order of time.
fn values(name: &str, values: &[f64]) -> TimeSeries {
    let start = now_ms() - values.len() as i64;
    let samples = values.iter().zip(start..).map(|(&value, timestamp)| Sample { value, timestamp });
    TimeSeries { samples: samples.collect(), ..series(&[("__name__", name)], 0.0, 0) }
}

fn times(name: &str, times: &[i64]) -> TimeSeries {
    let samples = times.iter().map(|&timestamp| Sample { value: 1.0, timestamp });
    TimeSeries { samples: samples.collect(), ..series(&[("__name__", name)], 0.0, 0) }
}

fn cases() -> Vec<Case> {
    let nans = [
        0x7ff8_0000_0000_0001,
        0x7ff0_0000_0000_0001,
        0x7ff0_0000_0000_0002,
        0x7ff8_0000_0000_0000,
        0xfff8_0000_0000_0001,
        0xfff0_0000_0000_0002,
        0x7fff_ffff_ffff_ffff,
        0xffff_ffff_ffff_ffff,
    ];
    let small = [5e-324, -5e-324, f64::MIN_POSITIVE / 2.0, -0.0, 0.0];
    let large = [f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY, 1.0];
    vec![
        case("16 MiB of label value", labelled(b"l", vec![b'x'; 16 << 20]), 400),
        case("16 MiB of label name", labelled(&vec![b'x'; 16 << 20], b"x".to_vec()), 400),
        Case { beside: false, ..case("10,000 labels", labels(10_000), 400) },
        case("1,000 labels less one", labels(999), 400),
        case("a label twice", labelled(b"__name__", b"odd".to_vec()), 400),
        case("a label without a name", labelled(b"", b"x".to_vec()), 400),
        case("a value that is no text", labelled(b"l", vec![0xff, 0xfe]), 400),
        case("NaNs of all kinds", values("nans", &nans.map(f64::from_bits)), 204),
        case("only a stale marker", values("stale", &[f64::from_bits(0x7ff0_0000_0000_0002)]), 204),
        case("denormals and zeros", values("small", &small), 204),
        case("the largest and the infinite", values("large", &large), 204),
        case("a counter that overflows", values("large_total", &large), 204),
        case("the first time", times("first", &[i64::MIN, i64::MIN + 1]), 204),
        case("the first time of a counter", times("first_total", &[i64::MIN, -1, 0, now_ms()]), 204),
        case("the last time", times("last", &[i64::MAX]), 400),
        case(
            "all times, in disorder",
            times("mixed", &[now_ms(), i64::MAX, i64::MIN, 0, now_ms() + 599_000]),
            400,
        ),
    ]
}

#[test]
fn attack_odd_values() {
    let _alone = super::alone();
    let sink = RemoteEnd::start();
    let victim = Victim::promantis(&(sink.target(", max_sample_age: 0") + MONITOR));
    let mut connection = Connection::open(victim.addr);
    for (number, Case { name, odd, status, beside }) in cases().into_iter().enumerate() {
        let good = format!("case=\"{number}\"");
        let reply = connection.post(&v1(vec![
            odd,
            series(&[("__name__", "good"), ("case", &number.to_string())], 1.0, now_ms()),
        ]));
        assert_eq!(reply.status, status, "{name}: {}", reply.body);
        assert!(victim.page("/health").contains("ok"), "{name}");
        let deadline = Instant::now() + PATIENCE;
        while beside && sink.count(&good) < 2 {
            assert!(Instant::now() < deadline, "{name}: the good series beside it is not judged");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
    let latest = now_ms() + AHEAD_MS_MAX;
    let taken = sink.taken();
    let ahead = taken.iter().find(|taken| taken.sample.timestamp > latest);
    assert!(ahead.is_none(), "{ahead:?}");
    assert!(taken.iter().any(|taken| taken.sample.timestamp == i64::MIN), "what is old is judged as well");
    assert_eq!(sink.count("case=\"2\""), 0, "a request that is refused whole leaves nothing");
    println!("attack_odd_values: {} derived samples; memory {} at most", taken.len(), mib(victim.peak()));
    assert!(victim.peak() <= MEMORY_MAX, "memory grew to {}", mib(victim.peak()));
}
