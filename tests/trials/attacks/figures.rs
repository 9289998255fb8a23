//! What is said of many measured times.

use std::fmt;
use std::time::Duration;

/// Times in ascending order.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        assert!(!times.is_empty(), "nothing was measured");
        Self(times)
    }

    /// The time that `per_mille` of all do not exceed.
    pub(crate) fn quantile(&self, per_mille: usize) -> Duration {
        let index = (self.0.len() * per_mille).div_ceil(1000).saturating_sub(1);
        self.0[index.min(self.0.len() - 1)]
    }

    pub(crate) fn p99(&self) -> Duration {
        self.quantile(990)
    }

    pub(crate) fn max(&self) -> Duration {
        self.quantile(1000)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.quantile(500), self.p99());
        write!(f, "{} requests, p50 {p50:.0?}, p99 {p99:.0?}, max {:.0?}", self.0.len(), self.max())
    }
}

/// Bytes as mebibytes.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
