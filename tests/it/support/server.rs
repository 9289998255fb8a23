//! A server in this process, with the journal it writes to.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use promantis::edge::journal::{Entry, Journal};
use promantis::edge::limits::ReceiveLimits;
use promantis::edge::receive::Receiver;
use promantis::edge::serve::answer;
use promantis::edge::serve::routes::{Reload, Routes};
use promantis::edge::serve::{Bound, Server};
use promantis::edge::telemetry::Metrics;
use promantis::series::Sample;

/// How long a server may take to do what it must.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, what it accepted, and what it counted.
pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) journal: Arc<Journal>,
    bound: Option<Bound>,
    runtime: tokio::runtime::Runtime,
}

/// What a test says differently.
pub(crate) struct Settings {
    pub(crate) limits: ReceiveLimits,
    pub(crate) waiting_bytes: usize,
    pub(crate) reload: Reload,
}

impl Default for Settings {
    fn default() -> Self {
        Self { limits: ReceiveLimits::default(), waiting_bytes: 1 << 30, reload: Arc::new(|| Ok(())) }
    }
}

impl TestServer {
    pub(crate) fn start() -> Self {
        Self::start_with(Settings::default())
    }

    pub(crate) fn start_with(settings: Settings) -> Self {
        let metrics = Arc::new(Metrics::new());
        let journal = Journal::in_memory_waiting(settings.waiting_bytes, (1 << 30, 1), Arc::clone(&metrics));
        Self::start_over(journal, metrics, settings)
    }

    /// A server that writes to `journal`, which has one reader.
    pub(crate) fn start_over(journal: Arc<Journal>, metrics: Arc<Metrics>, settings: Settings) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let receiver = Receiver::new(settings.limits.clone(), Arc::clone(&journal), Arc::clone(&metrics));
        let routes = Routes::new(receiver, Arc::clone(&metrics), settings.reload).with_query(
            "/api/v1/echo",
            |request| {
                let query = request.uri().query().unwrap_or_default();
                answer::json(hyper::StatusCode::OK, &query)
            },
        );
        let bound = runtime
            .block_on(Server::start("127.0.0.1:0", &settings.limits, routes))
            .expect("a loopback port is free");
        Self { addr: bound.addr, metrics, journal, bound: Some(bound), runtime }
    }

    pub(crate) fn set_ready(&self) {
        self.bound.as_ref().expect("the server runs").set_ready();
    }

    /// Begins to drain in the background; the handle ends with it.
    pub(crate) fn shutdown(&mut self, grace: Duration) -> tokio::task::JoinHandle<()> {
        let bound = self.bound.take().expect("the server runs");
        self.runtime.spawn(bound.shutdown(grace))
    }

    /// Waits for what was begun, within reason.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, future).await })
            .expect("it ends in time")
    }

    /// Everything accepted since the last call: for each series its labels as PromQL writes them, and samples.
    pub(crate) fn accepted(&self) -> Vec<(String, Vec<Sample>)> {
        let last = self.journal.append_tick(0).expect("a tick always fits");
        let mut accepted = Vec::new();
        while let Some(record) = self.journal.read(0) {
            if let Entry::Request { batch } = &record.entry {
                accepted.extend(batch.iter().map(|one| (one.labels.to_string(), one.samples.to_vec())));
            }
            self.journal.done(0, record.sequence);
            if record.sequence == last {
                break;
            }
        }
        accepted
    }

    /// The value of a metric of our own, such as `promantis_connections`; 0 if it is not exposed.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.metrics.render();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until the metric has the value.
    pub(crate) fn wait_for_metric(&self, name: &str, value: f64) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.metric(name) != value {
            assert!(std::time::Instant::now() < deadline, "{name} is {}, not {value}", self.metric(name));
            std::thread::yield_now();
        }
    }
}

/// Set for the process that [`ServerProcess`] starts.
const IS_SERVER: &str = "PROMANTIS_TEST_SERVES";

/// A server in a process of its own, so that its memory can be told from that of other tests.
pub(crate) struct ServerProcess {
    pub(crate) addr: SocketAddr,
    child: Child,
    /// Held open, so that the process can end with a last word.
    _output: BufReader<ChildStdout>,
}

impl ServerProcess {
    /// Starts this very test binary to run [`serves_when_asked_to`] alone.
    pub(crate) fn spawn() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("the test binary has a path"))
            .args(["--exact", "support::server::serves_when_asked_to", "--nocapture"])
            .env(IS_SERVER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary can be run again");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let lines = output.by_ref().lines().map_while(Result::ok);
        let addr = lines.filter_map(|line| line.split_once("listens on ")?.1.parse().ok()).next();
        Self { addr: addr.expect("the server says where it listens"), child, _output: output }
    }

    /// The most memory the process ever held, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process runs");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        kib.expect("the kernel tells").trim().parse::<u64>().expect("a number") << 10
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It ends with its input; waiting only clears up after it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Does nothing in an ordinary run.
#[test]
fn serves_when_asked_to() {
    if std::env::var_os(IS_SERVER).is_some() {
        let server = TestServer::start();
        println!("listens on {}", server.addr);
        std::io::stdin().read_to_end(&mut Vec::new()).expect("the parent holds the other end");
    }
}
