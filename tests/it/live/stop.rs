//! What was acknowledged before a stop was asked for is delivered before it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use promantis::wire::prompb::v1::{Label, Sample, TimeSeries, WriteRequest};
use prost::Message;

use crate::support::peers::free_addr;
use crate::support::stack;
use crate::support::target::Target;

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
    promantis::app::unix_ms()
}

#[test]
fn a_stop_delivers_what_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let target = Target::start(Duration::from_millis(20));
    // A hard limit knows its verdict from the first sample on: a score and a flag for each sample.
    let config = format!(
        "remote_write: [{{url: \"http://{}/api/v1/write\"}}]
monitors: [{{name: one, select: load, detectors: [static], static: {{upper: 5}}}}]\n",
        target.addr
    );
    let mut promantis = stack::promantis(dir.path(), free_addr(), &config);
    for index in 0..ROUNDS {
        assert_eq!(promantis.post("/api/v1/write", &round(index)).status, 204);
    }
    let wanted = SERIES * ROUNDS as usize * 2;
    let before = target.samples().len();
    assert!(before < wanted, "all {wanted} samples were there before the stop, which shows nothing");
    promantis.signal("TERM");
    assert!(promantis.ended().success(), "{}", promantis.log());
    let taken = target.samples();
    assert_eq!(taken.len(), wanted, "{}", promantis.log());
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>().len(), wanted, "none twice");
}
