//! Builds a remote-write request out of spliced labels, and decodes it again without a network.
//!
//! `cargo run --example remote_write`

use promantis::series::{LabelRunBuf, Sample};
use promantis::wire::decode::{Limits, Protocol, decode};
use promantis::wire::encode::RequestBuilder;
use promantis::wire::snappy;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let labels: LabelRunBuf = [("__name__", "up"), ("job", "api")].into_iter().collect();
    let mut request = RequestBuilder::new();
    for minute in 0..3 {
        request.push(&[&labels.encode()], Sample { timestamp: minute * 60_000, value: 1.0 });
    }
    let body = snappy::compress(&request.finish());
    println!("{} bytes would be posted to /api/v1/write", body.len());

    let raw = snappy::decompress(&body, 1 << 20)?;
    let decoded = decode(Protocol::V1, raw, &Limits::default(), i64::MAX)?;
    for series in decoded.batch.iter() {
        println!("{} = {:?}", series.labels, series.samples);
    }
    Ok(())
}
