//! vmagent before promantis, VictoriaMetrics behind it.

use std::time::Duration;

use crate::support::exporter::Exporter;
use crate::support::peers::free_addr;
use crate::support::stack::{self, query};
use crate::support::until::until;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn vmagent_to_promantis_to_victoria_metrics() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let app = Exporter::start();
    let victoria = stack::victoria_metrics(dir.path(), free_addr());
    let config = format!(
        "remote_write: [{{url: \"http://{}/api/v1/write\"}}]\nmonitors: [{{name: load, select: app_load}}]\n",
        victoria.addr
    );
    let promantis = stack::promantis(dir.path(), free_addr(), &config);
    let _vmagent = stack::vmagent(dir.path(), app.addr, promantis.addr);
    let series =
        until(PATIENCE, "a score is in VictoriaMetrics", || query(&victoria, "ml_anomaly_score").pop());
    let instance = app.addr.to_string();
    let expected = [
        ("__name__", "ml_anomaly_score"),
        ("instance", &instance),
        ("job", "app"),
        ("metric_name", "app_load"),
        ("monitor", "load"),
    ];
    assert_eq!(series.0, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert!((0.0..10.0).contains(&series.1), "a score of {}", series.1);
    let flags = until(PATIENCE, "flags are, too", || query(&victoria, "ml_anomaly_flag").pop());
    assert_eq!(flags.1, 0.0, "nothing is wrong");
    assert_eq!(promantis.metric("promantis_samples_refused_total{reason=\"too_far_in_future\"}"), None);
}
