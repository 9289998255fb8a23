//! The programs of a stack, each with the flags it needs.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::http::with_query;
use super::peers::{Peer, Program, free_addr};

/// One series of an instant query: its labels and its value.
pub(crate) type Series = (BTreeMap<String, String>, f64);

/// A file of `examples/prometheus`.
pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/prometheus").join(name)
}

/// Writes a file into `dir` and tells its path.
pub(crate) fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).expect("the directory can be written");
    path.display().to_string()
}

/// promantis with `config`, which says nothing of `listen`, at `addr`.
#[track_caller]
pub(crate) fn promantis(dir: &Path, addr: SocketAddr, config: &str) -> Peer {
    let config = write(dir, "promantis.yml", config);
    let program = Program { name: env!("CARGO_BIN_EXE_promantis"), addr, ready: "/-/ready" };
    Peer::start(&program, dir, &["serve".into(), format!("--config={config}"), format!("--listen={addr}")])
}

/// Prometheus with `config` at `addr`. Takes remote write.
#[track_caller]
pub(crate) fn prometheus(dir: &Path, addr: SocketAddr, config: &str) -> Peer {
    let config = write(dir, "prometheus.yml", config);
    let program = Program { name: "prometheus", addr, ready: "/-/ready" };
    let arguments = [
        format!("--config.file={config}"),
        format!("--storage.tsdb.path={}", dir.join("prometheus").display()),
        format!("--web.listen-address={addr}"),
        "--web.enable-remote-write-receiver".into(),
    ];
    Peer::start(&program, dir, &arguments)
}

/// Alertmanager with `config` at `addr`, without a cluster.
#[track_caller]
pub(crate) fn alertmanager(dir: &Path, addr: SocketAddr, config: &str) -> Peer {
    let config = write(dir, "alertmanager.yml", config);
    let program = Program { name: "prometheus-alertmanager", addr, ready: "/-/ready" };
    let arguments = [
        format!("--config.file={config}"),
        format!("--storage.path={}", dir.join("alertmanager").display()),
        format!("--web.listen-address={addr}"),
        "--cluster.listen-address=".into(),
    ];
    Peer::start(&program, dir, &arguments)
}

/// A node exporter at `addr`.
#[track_caller]
pub(crate) fn node_exporter(dir: &Path, addr: SocketAddr) -> Peer {
    let program = Program { name: "prometheus-node-exporter", addr, ready: "/metrics" };
    Peer::start(&program, dir, &[format!("--web.listen-address={addr}")])
}

/// A VictoriaMetrics that shows samples at once.
#[track_caller]
pub(crate) fn victoria_metrics(dir: &Path) -> Peer {
    let program = Program { name: "victoria-metrics", addr: free_addr(), ready: "/health" };
    let arguments = [
        format!("-httpListenAddr={}", program.addr),
        format!("-storageDataPath={}", dir.join("victoria").display()),
        "-search.latencyOffset=0s".into(),
    ];
    Peer::start(&program, dir, &arguments)
}

/// A vmagent that scrapes `target` every second and writes to `to`.
#[track_caller]
pub(crate) fn vmagent(dir: &Path, target: SocketAddr, to: SocketAddr) -> Peer {
    let config = write(
        dir,
        "vmagent.yml",
        &format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: app\n    static_configs: [{{targets: [\"{target}\"]}}]\n"
        ),
    );
    let program = Program { name: "vmagent", addr: free_addr(), ready: "/metrics" };
    let arguments = [
        format!("-httpListenAddr={}", program.addr),
        format!("-promscrape.config={config}"),
        format!("-remoteWrite.url=http://{to}/api/v1/write"),
        format!("-remoteWrite.tmpDataPath={}", dir.join("vmagent").display()),
    ];
    Peer::start(&program, dir, &arguments)
}

/// An instant query, as Prometheus and VictoriaMetrics answer it.
#[track_caller]
pub(crate) fn query(peer: &Peer, promql: &str) -> Vec<Series> {
    let reply = peer.get(&with_query("/api/v1/query", &[("query", promql)]));
    assert_eq!(reply.status, 200, "{promql}: {}", reply.body);
    let answer = reply.json();
    let result = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{promql}: {answer}"));
    result.iter().map(|series| (labels(&series["metric"]), number(&series["value"][1]))).collect()
}

/// Labels, from an object of texts.
pub(crate) fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object.as_object().into_iter().flatten();
    labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn number(text: &Value) -> f64 {
    text.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{text} is no number"))
}
