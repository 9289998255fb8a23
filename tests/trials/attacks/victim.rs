//! A program under attack: the release build as a child, and the memory it takes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client::Connection;

/// How long a program may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// A child that answers HTTP; it ends with this.
pub(crate) struct Victim {
    pub(crate) addr: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Victim {
    /// promantis with `config`, which says nothing of `listen`.
    pub(crate) fn promantis(config: &str) -> Self {
        Self::start(env!("CARGO_BIN_EXE_promantis"), |dir, addr| {
            let path = write(dir, "promantis.yml", config);
            vec!["serve".into(), format!("--config={path}"), format!("--listen={addr}")]
        })
    }

    /// Prometheus that scrapes itself every second and takes remote write.
    pub(crate) fn prometheus() -> Self {
        Self::start("prometheus", |dir, addr| {
            let scrape = format!("{{job_name: self, static_configs: [{{targets: [\"{addr}\"]}}]}}");
            let config = format!("global: {{scrape_interval: 1s}}\nscrape_configs: [{scrape}]\n");
            vec![
                format!("--config.file={}", write(dir, "prometheus.yml", &config)),
                format!("--storage.tsdb.path={}", dir.join("data").display()),
                format!("--web.listen-address={addr}"),
                "--web.enable-remote-write-receiver".into(),
            ]
        })
    }

    fn start(program: &str, arguments: impl FnOnce(&Path, SocketAddr) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        drop(listener);
        let log = File::create(dir.path().join("log")).expect("the directory can be written");
        let child = Command::new(program)
            .args(arguments(dir.path(), addr))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("start {program}: {error}"));
        let victim = Self { addr, child, dir };
        let deadline = Instant::now() + PATIENCE;
        while !victim.is_ready() {
            assert!(Instant::now() < deadline, "{program} is not ready: {}", victim.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
        victim
    }

    fn is_ready(&self) -> bool {
        Connection::try_open(self.addr)
            .and_then(|connection| connection.get("/-/ready"))
            .is_some_and(|reply| reply.status == 200)
    }

    /// The body of a page that is there.
    pub(crate) fn page(&self, path: &str) -> String {
        let reply = Connection::open(self.addr).get(path).expect("it answers");
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.body
    }

    /// The value of one sample on its metrics page; 0 where it is not there.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let page = self.page("/metrics");
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok();
        page.lines().find_map(value).unwrap_or(0.0)
    }

    /// The most memory it has had so far, bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory it has now, bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The processor time that it has spent.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        // After the name, which may hold anything, the 12th and 13th field are user and system time in ticks
        // of 10 ms, on every Linux.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        let ticks: u64 = fields.take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("Linux tells");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- end of its log\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).expect("the directory can be written");
    path.display().to_string()
}
