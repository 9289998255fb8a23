//! Small bodies that are large requests.

use std::time::{Duration, Instant};

use promantis::wire::prompb::v2;
use prost::Message;

use super::client::{Connection, V1, V2, post, snappy};
use super::figures::{Times, mib};
use super::victim::Victim;

const CONNECTIONS: usize = 4;
const ROUNDS: usize = 50;
/// Memory that all of it may cost, bytes.
const GROWTH_MAX: u64 = 32 << 20;
const ANSWER_WITHIN: Duration = Duration::from_millis(100);

/// What is sent, and what the answer complains of.
struct Attack {
    name: &'static str,
    request: Vec<u8>,
    complaint: &'static str,
}

fn attacks() -> Vec<Attack> {
    let empty_series = post(V1, &snappy(&[0x0a, 0].repeat(8 << 20)));
    assert!(empty_series.len() < 800_000, "{} bytes", empty_series.len());
    let empty_series_2 = post(V2, &snappy(&[0x2a, 0].repeat(8 << 20)));
    let within_series = |label_or_sample: u8| {
        let mut raw = Vec::new();
        prost::encoding::bytes::encode(1, &[label_or_sample, 0].repeat(8 << 20), &mut raw);
        post(V1, &snappy(&raw))
    };
    vec![
        Attack { name: "8 M empty series", request: empty_series, complaint: "series" },
        Attack { name: "8 M empty series of 2.0", request: empty_series_2, complaint: "series" },
        Attack { name: "8 M empty labels", request: within_series(0x0a), complaint: "labels" },
        Attack { name: "8 M empty samples", request: within_series(0x12), complaint: "samples" },
        Attack { name: "1 M references to 1 MiB", request: one_long_symbol(), complaint: "labels" },
        Attack { name: "5,000 series of 12 KiB", request: many_references(5_000), complaint: "label" },
        Attack { name: "20,000 series of 12 KiB", request: many_references(20_000), complaint: "label" },
        Attack { name: "50,000 series of 12 KiB", request: many_references(50_000), complaint: "label" },
    ]
}

/// One symbol of 1 MiB, referred to a million times by one series.
fn one_long_symbol() -> Vec<u8> {
    let symbols = vec![Vec::new(), vec![b'x'; 1 << 20]];
    let samples = vec![v2::Sample { value: 1.0, timestamp: 1, start_timestamp: 0 }];
    let series = v2::TimeSeries { labels_refs: vec![1; 1 << 20], samples, ..Default::default() };
    post(V2, &snappy(&v2::Request { symbols, timeseries: vec![series] }.encode_to_vec()))
}

/// Series with three labels whose values are the longest allowed.
fn many_references(count: usize) -> Vec<u8> {
    let symbols = ["", "__name__", &"x".repeat(4096), "a", "b"].map(|text| text.as_bytes().to_vec()).to_vec();
    let samples = vec![v2::Sample { value: 1.0, timestamp: 1, start_timestamp: 0 }];
    let series = v2::TimeSeries { labels_refs: vec![1, 2, 3, 2, 4, 2], samples, ..Default::default() };
    post(V2, &snappy(&v2::Request { symbols, timeseries: vec![series; count] }.encode_to_vec()))
}

#[test]
fn attack_amplification() {
    let _alone = super::alone();
    let victim = Victim::promantis("");
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| Connection::open(victim.addr)).collect();
    let before = victim.peak();
    let mut slow = Vec::new();
    for Attack { name, request, complaint } in attacks() {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            for connection in &mut connections {
                let start = Instant::now();
                let reply = connection.post(&request);
                times.push(start.elapsed());
                assert_eq!(reply.status, 400, "{name}: {}", reply.body);
                assert!(reply.body.contains(complaint), "{name}: {}", reply.body);
            }
        }
        let (times, growth) = (Times::new(times), victim.peak().saturating_sub(before));
        println!("attack_amplification: {name}, {} bytes: {times}; memory +{}", request.len(), mib(growth));
        if times.p99() > ANSWER_WITHIN {
            slow.push(name);
        }
        assert!(growth <= GROWTH_MAX, "{name}: memory grew by {}", mib(growth));
    }
    assert!(slow.is_empty(), "answered after more than {ANSWER_WITHIN:?}: {slow:?}");
    println!("attack_amplification: memory in the end {}", mib(victim.resident()));
}
