//! What the examples that measure send: series as Prometheus has them, a sample of each at every step.

use promantis::series::{LabelRunBuf, Sample};
use promantis::wire::encode::RequestBuilder;
use promantis::wire::snappy;

/// Milliseconds between two samples of a series.
pub(crate) const STEP_MS: i64 = 15_000;

/// Label runs of `count` series with ten labels, about 320 bytes each.
pub(crate) fn label_runs(count: usize) -> Vec<Box<[u8]>> {
    let run = |number: usize| {
        let instance = format!("10.0.{}.{}:9100", number / 250 % 250, number % 250);
        let pod = format!("checkout-service-7d9f8b6c5d-{number:06}");
        let labels: LabelRunBuf = [
            ("__name__", "http_server_request_duration_seconds_last"),
            ("cluster", "production-eu-west-1"),
            ("container", "checkout-service"),
            ("endpoint", "http-metrics"),
            ("instance", instance.as_str()),
            ("job", "kubernetes-pods-checkout"),
            ("method", "POST"),
            ("namespace", "payments-and-billing"),
            ("pod", pod.as_str()),
            ("status", "200"),
        ]
        .into_iter()
        .collect();
        labels.encode()
    };
    (0..count).map(run).collect()
}

/// The compressed requests of one step, stamped `timestamp`, Unix milliseconds, each of so many series.
pub(crate) fn bodies(runs: &[Box<[u8]>], per_request: usize, step: i64, timestamp: i64) -> Vec<Vec<u8>> {
    let request = |(chunk, series): (usize, &[Box<[u8]>])| {
        let mut builder = RequestBuilder::new();
        for (index, run) in series.iter().enumerate() {
            let number = (chunk * per_request + index) as i64;
            let noise = (number.wrapping_mul(2_654_435_761) ^ step.wrapping_mul(40_503)).rem_euclid(1000);
            let value = 100.0 + noise as f64 / 100.0;
            builder.push(&[run], Sample { timestamp, value });
        }
        snappy::compress(&builder.finish())
    };
    runs.chunks(per_request).enumerate().map(request).collect()
}
