//! From a fault in an application to an alert in Alertmanager and back, through the example's own files.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::exporter::Exporter;
use crate::support::http::with_query;
use crate::support::peers::{Peer, free_addr};
use crate::support::stack::{self, example, labels, query};
use crate::support::until::until;

/// How long any one step may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// Bytes left on the disk when its limit is reached.
const DISK_LIMIT: i64 = 1 << 30;

struct Stack {
    app: Exporter,
    _node: Peer,
    alertmanager: Peer,
    promantis: Peer,
    prometheus: Peer,
    _dir: TempDir,
}

impl Stack {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let app = Exporter::start();
        let addrs = [free_addr(), free_addr(), free_addr(), free_addr()];
        let [prometheus, alertmanager, node, promantis] = addrs;
        stack::write(dir.path(), "rules.yml", &hurried(&read("rules.yml")));
        let config = hurried(&read("prometheus.yml"))
            .replace("127.0.0.1:9090", &prometheus.to_string())
            .replace("127.0.0.1:9093", &alertmanager.to_string())
            .replace("127.0.0.1:9900", &promantis.to_string())
            .replace("127.0.0.1:9100", &node.to_string())
            .replace("scrape_configs:\n", &format!("scrape_configs:\n{}", job(app.addr)));
        Self {
            app,
            _node: stack::node_exporter(dir.path(), node),
            alertmanager: stack::alertmanager(dir.path(), alertmanager, &hurried(&read("alertmanager.yml"))),
            promantis: stack::promantis(dir.path(), promantis, &monitors(prometheus)),
            prometheus: stack::prometheus(dir.path(), prometheus, &config),
            _dir: dir,
        }
    }

    /// Labels of the alert called `name` on `metric` in Alertmanager, once it is there.
    fn alerted(&self, name: &str, metric: &str) -> Option<BTreeMap<String, String>> {
        let filters = [("filter", format!("alertname={name}")), ("filter", format!("metric_name={metric}"))];
        let filters = filters.each_ref().map(|(key, filter)| (*key, filter.as_str()));
        let alerts = self.alertmanager.get(&with_query("/api/v2/alerts", &filters)).json();
        alerts.as_array()?.first().map(|alert| labels(&alert["labels"]))
    }

    /// States of the alert called `name` on `metric` in Prometheus.
    fn states(&self, name: &str, metric: &str) -> Vec<String> {
        let answer = self.prometheus.get("/api/v1/alerts").json();
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let wanted = alerts
            .into_iter()
            .filter(|alert| alert["labels"]["alertname"] == name && alert["labels"]["metric_name"] == metric);
        wanted.map(|alert| alert["state"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// How often the series called `metric` was judged.
    fn observations(&self, metric: &str) -> u64 {
        let select = format!("{{metric_name=\"{metric}\"}}");
        let answer = self.promantis.get(&with_query("/api/v1/series", &[("match[]", &select)])).json();
        answer["data"][0]["observations"].as_u64().unwrap_or_default()
    }
}

fn read(name: &str) -> String {
    fs::read_to_string(example(name)).expect("the example exists")
}

/// Seconds where the example has minutes.
fn hurried(text: &str) -> String {
    [
        ("15s", "1s"),
        ("for: 1m", "for: 2s"),
        ("for: 2m", "for: 2s"),
        ("for: 5m", "for: 5s"),
        ("group_wait: 10s", "group_wait: 0s"),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (slow, fast)| text.replace(slow, fast))
}

fn job(app: SocketAddr) -> String {
    format!("  - job_name: app\n    static_configs:\n      - targets: [\"{app}\"]\n")
}

fn monitors(prometheus: SocketAddr) -> String {
    format!(
        "remote_write: [{{url: \"http://{prometheus}/api/v1/write\"}}]
monitors:
  - name: load
    select: app_load
    warm_up: 20
    window: {{trigger: 3s, recovery: 3s}}
    min_deviation: {{absolute: 20}}
    emit: [score, flag, expected]
  - name: disk
    select: app_disk_free_bytes
    warm_up: 20
    window: {{trigger: 3s, recovery: 3s}}
    forecast: {{horizons: [1h], lower: {DISK_LIMIT}}}
    emit: [forecast]
  - name: node
    select: 'node_load1'
"
    )
}

#[test]
fn prometheus_alerts_on_a_fault_and_resolves() {
    let stack = Stack::start();
    until(PATIENCE, "thirty samples are judged", || (stack.observations("app_load") >= 30).then_some(()));
    for (name, metric) in [("AnomalyDetected", "app_load"), ("LimitWithinTheHour", "app_disk_free_bytes")] {
        assert_eq!(stack.states(name, metric), [""; 0], "{name} before any fault");
    }
    assert_eq!(query(&stack.prometheus, "count(ml_anomaly_score{metric_name=\"node_load1\"})")[0].1, 1.0);

    stack.app.add_load(200);
    stack.app.fill_disk(20 << 20);
    fires(&stack, "AnomalyDetected", "app_load", "load");
    fires(&stack, "LimitWithinTheHour", "app_disk_free_bytes", "disk");
    assert!(stack.app.disk_free() > DISK_LIMIT, "foretold too late");

    stack.app.add_load(0);
    until(PATIENCE, "the alert ends in Prometheus", || {
        stack.states("AnomalyDetected", "app_load").is_empty().then_some(())
    });
    until(PATIENCE, "the alert ends in Alertmanager", || {
        stack.alerted("AnomalyDetected", "app_load").is_none().then_some(())
    });
    let itself = query(&stack.prometheus, "ALERTS{alertname=~\"Promantis.*\", alertstate=\"firing\"}");
    assert!(itself.is_empty(), "{itself:?}");
}

/// Waits for the alert in Prometheus, then in Alertmanager, and looks at its labels.
#[track_caller]
fn fires(stack: &Stack, name: &str, metric: &str, monitor: &str) {
    until(PATIENCE, name, || (stack.states(name, metric) == ["firing"]).then_some(()));
    let labels = until(PATIENCE, name, || stack.alerted(name, metric));
    let expected = [
        ("alertname", name),
        ("metric_name", metric),
        ("monitor", monitor),
        ("job", "app"),
        ("instance", &stack.app.addr.to_string()),
        ("severity", "warning"),
    ];
    for (label, value) in expected {
        assert_eq!(labels.get(label).map(String::as_str), Some(value), "{label} of {labels:?}");
    }
}
