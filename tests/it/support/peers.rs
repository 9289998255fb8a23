//! Programs that run beside a test: started on free loopback ports, stopped by their own process id.

use std::fmt;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::http;
use super::until::until;

/// How long a program may take to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lines of its log that a failure shows.
const LOG_LINES: usize = 30;

/// A running program that answers HTTP.
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    child: Child,
    log: PathBuf,
}

/// What is to be started.
pub(crate) struct Program<'a> {
    /// Name or path of the program.
    pub(crate) name: &'a str,
    /// Where it will answer.
    pub(crate) addr: SocketAddr,
    /// What it answers with success when it is ready.
    pub(crate) ready: &'a str,
}

/// An address that nobody listens on. Its port is not one that the system gives to outgoing connections, so
/// that it is still free when the program takes it.
pub(crate) fn free_addr() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 9000).unwrap_or_default();
    let addrs = (0..10_000).map(|_| {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    });
    let mut free = addrs.filter(|addr| TcpListener::bind(addr).is_ok());
    free.next().expect("some port is free")
}

impl Peer {
    /// Starts a program and waits until it is ready. Keeps its log in `dir`.
    #[track_caller]
    pub(crate) fn start(program: &Program<'_>, dir: &Path, arguments: &[String]) -> Self {
        let mut peer = Self::spawn(program, dir, arguments);
        let ready = format!("{} is ready", program.name);
        until(PATIENCE, &ready, || peer.is_ready(program.ready).then_some(()));
        peer
    }

    /// Starts a program. Keeps its log, and what it prints, in `dir`.
    #[track_caller]
    pub(crate) fn spawn(program: &Program<'_>, dir: &Path, arguments: &[String]) -> Self {
        let Program { name, addr, .. } = *program;
        let base = Path::new(name).file_name().expect("a program has a name").to_string_lossy();
        let log = dir.join(format!("{base}-{}.log", addr.port()));
        let file = File::create(&log).expect("the directory can be written");
        let spawned = Command::new(name)
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be shared"))
            .stderr(file)
            .spawn();
        let child = spawned.unwrap_or_else(|error| {
            panic!("start {name}: {error}; the live tests need the packages that tests/run installs")
        });
        Self { addr, child, log }
    }

    fn is_ready(&mut self, path: &str) -> bool {
        self.check();
        http::get(self.addr, path).is_ok_and(|reply| reply.status == 200)
    }

    /// Fails when it has ended.
    #[track_caller]
    pub(crate) fn check(&mut self) {
        let ended = self.child.try_wait().expect("a child can be asked for");
        assert!(ended.is_none(), "{self:?} ended with {ended:?}");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory it has had so far, bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// What the kernel says of it in a field that is counted in kB, such as `VmRSS:`; bytes.
    pub(crate) fn status_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("Linux tells");
        let kib = line.trim().trim_end_matches(" kB").parse::<u64>();
        kib.expect("a number of kB") * 1024
    }

    /// Sends a signal, such as `TERM` or `HUP`.
    pub(crate) fn signal(&self, signal: &str) {
        // The shell's own `kill`; the program of that name is not installed everywhere.
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.pid())]).status();
        assert!(sent.expect("a shell can be started").success(), "{self:?} takes no signal");
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        until(PATIENCE, "the program ends", || self.child.try_wait().expect("a child can be asked for"))
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> http::Reply {
        http::get(self.addr, path).unwrap_or_else(|error| panic!("GET {path} of {self:?}: {error}"))
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &[u8]) -> http::Reply {
        http::post(self.addr, path, body).unwrap_or_else(|error| panic!("POST {path} to {self:?}: {error}"))
    }

    /// The value of one sample on its metrics page; `None` where it is not there.
    #[track_caller]
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let page = self.get("/metrics").body;
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok();
        page.lines().find_map(value)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.log.display(), self.addr)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = lines.len().saturating_sub(LOG_LINES);
            eprintln!("--- end of {}\n{}", self.log.display(), lines[last..].join("\n"));
        }
    }
}
