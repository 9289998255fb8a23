//! What was acknowledged before a stop was asked for is delivered before it ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use promantis::wire::prompb::v1::{Label, Sample, TimeSeries, WriteRequest};
use prost::Message;

use crate::support::peers::free_addr;
use crate::support::receiver::{Receiver, Reply};
use crate::support::stack;

const SERIES: usize = 50;
const ROUNDS: i64 = 40;

/// One sample of each series, of the second `round`.
fn round(round: i64) -> Vec<u8> {
    let label = |name: &str, value: String| Label { name: name.into(), value: value.into() };
    let series = |index: usize| TimeSeries {
        labels: vec![label("__name__", "load".to_owned()), label("host", format!("h{index}"))],
        samples: vec![Sample { value: 1.0, timestamp: now() - 1000 * (ROUNDS - round) }],
        ..TimeSeries::default()
    };
    let timeseries = (0..SERIES).map(series).collect();
    let raw = WriteRequest { timeseries, ..WriteRequest::default() }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&raw).expect("it is small")
}

fn now() -> i64 {
    promantis::edge::clock::unix_ms()
}

/// A target that takes nothing while it is away.
async fn target(away: &Arc<AtomicBool>) -> Receiver {
    let away = Arc::clone(away);
    Receiver::start(move |_| Reply::Status(if away.load(Ordering::Relaxed) { 503 } else { 204 })).await
}

#[test]
fn a_stop_delivers_what_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("threads are to be had");
    let away = Arc::new(AtomicBool::new(true));
    let target = runtime.block_on(target(&away));
    // A hard limit knows its verdict from the first sample on: a score and a flag for each sample.
    let config = format!(
        "remote_write: [{{url: \"{}\", max_backoff: 100ms}}]
monitors: [{{name: one, select: load, detectors: [static], static: {{upper: 5}}}}]\n",
        target.url()
    );
    let mut promantis = stack::promantis(dir.path(), free_addr(), &config);
    for index in 0..ROUNDS {
        assert_eq!(promantis.post("/api/v1/write", &round(index)).status, 204);
    }
    assert_eq!(target.taken().len(), 0, "the target is away");
    promantis.signal("TERM");
    away.store(false, Ordering::Relaxed);
    assert!(promantis.ended().success(), "{}", promantis.log());
    let taken = target.taken().into_iter().map(|sample| (sample.series, sample.timestamp));
    let (count, distinct) = (taken.clone().count(), taken.collect::<BTreeSet<_>>().len());
    let wanted = SERIES * ROUNDS as usize * 2;
    assert_eq!((count, distinct), (wanted, wanted), "{}", promantis.log());
}
