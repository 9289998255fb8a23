//! The programs of a stack, each with the flags it needs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::peers::{Peer, Program, free_addr};
use super::stores::{Series, try_query};
pub(crate) use super::stores::{labels, promantis, prometheus, victoria_metrics, write};

/// A file of `examples/prometheus`.
pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/prometheus").join(name)
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
    try_query(peer, promql).unwrap_or_else(|reply| panic!("{promql}: {reply:?}"))
}
