//! Prometheus sends what promantis wrote back to promantis. Nothing comes of it.

use std::time::Duration;

use crate::support::exporter::Exporter;
use crate::support::peers::free_addr;
use crate::support::stack::{self, query};
use crate::support::until::until;

const PATIENCE: Duration = Duration::from_secs(85);
/// Scrapes, a second apart, that the loop is closed for.
const ROUNDS: f64 = 61.0;
/// The series that promantis skips because it wrote them itself.
const SKIPPED: &str = "promantis_samples_skipped_total{reason=\"own_series\"}";
/// The advice of the documentation.
const RULE: &str = "
    write_relabel_configs: [{source_labels: [__name__], regex: 'ml_.*', action: drop}]";

/// Closes the loop between a Prometheus and a promantis; returns how many of its own samples promantis met.
fn close_the_loop(relabel: &str) -> Option<f64> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let app = Exporter::start();
    let (prometheus, promantis) = (free_addr(), free_addr());
    let config = format!("remote_write: [{{url: \"http://{prometheus}/api/v1/write\"}}]\n");
    let promantis = stack::promantis(dir.path(), promantis, &config);
    let config = format!(
        "global: {{scrape_interval: 1s, external_labels: {{cluster: c1}}}}
scrape_configs:
  - job_name: app
    static_configs: [{{targets: [\"{}\"]}}]
remote_write:
  - url: http://{}/api/v1/write
    queue_config: {{batch_send_deadline: 500ms}}{relabel}
",
        app.addr, promantis.addr
    );
    let prometheus = stack::prometheus(dir.path(), prometheus, &config);
    let rounds = "count_over_time(app_load[5m])";
    until(PATIENCE, "a minute of scrapes", || query(&prometheus, rounds).pop().filter(|it| it.1 >= ROUNDS));

    assert_eq!(query(&prometheus, "count({metric_name=~\"ml_.*\"})"), [], "derived from derived");
    // Two of the application, and up to five that Prometheus adds to each target.
    let scores = query(&prometheus, "count(ml_anomaly_score)");
    assert!((2.0..=7.0).contains(&scores[0].1), "{scores:?} is one score for a scraped series");
    promantis.metric(SKIPPED)
}

#[test]
fn closed_loop_never_derives_from_derived() {
    // A scope waits for both, so that one that fails leaves no programs of the other behind.
    let (without, with) = std::thread::scope(|scope| {
        let [without, with] = ["", RULE].map(|relabel| scope.spawn(move || close_the_loop(relabel)));
        let without = without.join().expect("the loop without the rule is checked");
        (without, with.join().expect("the loop with the rule is checked"))
    });
    assert!(without.is_some_and(|skipped| skipped > ROUNDS), "without the rule: {without:?}");
    assert_eq!(with, None, "with the rule");
}
