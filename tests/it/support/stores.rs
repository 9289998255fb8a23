//! promantis and the stores that take its series, each with the flags it needs, and a way to ask them.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use super::http::{Reply, with_query};
use super::peers::{Peer, Program};

/// One series of an instant query: its labels and its value.
pub(crate) type Series = (BTreeMap<String, String>, f64);

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

/// A VictoriaMetrics at `addr` that shows samples at once.
#[track_caller]
pub(crate) fn victoria_metrics(dir: &Path, addr: SocketAddr) -> Peer {
    let program = Program { name: "victoria-metrics", addr, ready: "/health" };
    let arguments = [
        format!("-httpListenAddr={addr}"),
        format!("-storageDataPath={}", dir.join("victoria").display()),
        "-search.latencyOffset=0s".into(),
        "-search.disableCache".into(),
    ];
    Peer::start(&program, dir, &arguments)
}

/// An instant query, as Prometheus and VictoriaMetrics answer it.
///
/// # Errors
/// The answer, where it is none to the question.
#[track_caller]
pub(crate) fn try_query(peer: &Peer, promql: &str) -> Result<Vec<Series>, Reply> {
    let reply = peer.get(&with_query("/api/v1/query", &[("query", promql)]));
    if reply.status != 200 {
        return Err(reply);
    }
    let answer = reply.json();
    let result = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{promql}: {answer}"));
    Ok(result.iter().map(|series| (labels(&series["metric"]), number(&series["value"][1]))).collect())
}

/// Labels, from an object of texts.
pub(crate) fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object.as_object().into_iter().flatten();
    labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn number(text: &Value) -> f64 {
    text.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{text} is no number"))
}
