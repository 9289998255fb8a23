//! A server in a process of its own, and what the system says of it.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::http::Connection;
use super::interrupt::Interrupt;
use super::page::Page;

/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked until then.
const PAUSE: Duration = Duration::from_millis(50);
/// How much of its log is shown of a server that ended, lines.
const LOG_LINES: usize = 5;
/// In which unit Linux tells CPU times (`USER_HZ`, man page proc_pid_stat).
const TICKS_PER_SECOND: f64 = 100.0;

/// What is to be started.
pub(super) struct Program {
    pub(super) executable: PathBuf,
    /// The Debian package that has it; empty for promantis itself.
    pub(super) package: &'static str,
    pub(super) arguments: Vec<String>,
    /// How many cores it may use; without it, all.
    pub(super) cores: Option<usize>,
    /// Where it will answer.
    pub(super) addr: SocketAddr,
    /// What it answers with 200 once it is ready.
    pub(super) ready: &'static str,
}

impl Program {
    fn command(&self) -> Command {
        let mut command = match self.cores {
            None => Command::new(&self.executable),
            Some(cores) => {
                // Becomes the program, so that it has the id of the process.
                let mut command = Command::new("taskset");
                command.arg("--cpu-list").arg(format!("0-{}", cores - 1)).arg(&self.executable);
                command
            }
        };
        command.args(&self.arguments);
        command
    }
}

/// See the module. Ends when dropped.
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    process: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it in `folder`, which has its log, and waits until it is ready.
    ///
    /// # Errors
    /// When it is not installed, ends at once, or is not ready in time; when it is interrupted.
    pub(super) fn start(program: &Program, folder: &Path, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let name = program.executable.display();
        let log = folder.join("log");
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let spawned = program
            .command()
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn();
        let process = match spawned {
            Ok(process) => process,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !program.package.is_empty() => {
                bail!("{name} is not installed; on Debian: apt install {}", program.package)
            }
            Err(error) => return Err(error).with_context(|| format!("start {name}")),
        };
        let mut server = Self { addr: program.addr, process, log };
        let begin = Instant::now();
        while !server.answers(program.ready) {
            server.check().with_context(|| format!("start {name}"))?;
            interrupt.check()?;
            if begin.elapsed() > PATIENCE {
                bail!("{name} is not ready after {PATIENCE:?}:\n{}", server.last_words());
            }
            sleep(PAUSE);
        }
        Ok(server)
    }

    fn answers(&self, path: &str) -> bool {
        let asked = Connection::open(self.addr).and_then(|mut connection| connection.get(path));
        asked.is_ok_and(|(status, _)| status == 200)
    }

    /// Fails when it has ended, with the end of its log.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.process.try_wait()? else { return Ok(()) };
        bail!("the server ended with {status}:\n{}", self.last_words())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// What it tells of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) fn page(&self) -> anyhow::Result<Page> {
        let (_, text) = Connection::open(self.addr)?.get("/metrics").context("ask for /metrics")?;
        Ok(Page(text))
    }

    /// CPU seconds, of user and system, that all its threads have used; good to 0.02.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = self.told("stat")?;
        // The second field may have anything in it, up to the last parenthesis.
        let fields = stat.rsplit_once(") ").context("stat of a process")?.1;
        let ticks: Vec<f64> = fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
    }

    /// Bytes of its memory that are in the machine's.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = self.told("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    fn told(&self, what: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{what}", self.process.id());
        fs::read_to_string(&path).with_context(|| format!("read {path}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The device and the type of the file system that has `path`.
///
/// # Errors
/// When the system does not tell.
pub(super) fn file_system(path: &Path) -> anyhow::Result<String> {
    let path = path.canonicalize()?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let holder = fields.filter(|fields| fields.len() > 2 && path.starts_with(fields[1]));
    let holder = holder.max_by_key(|fields| fields[1].len()).context("no file system")?;
    Ok(holder[2].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(executable: &str, package: &'static str) -> Program {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        Program {
            executable: executable.into(),
            package,
            arguments: Vec::new(),
            cores: None,
            addr,
            ready: "/",
        }
    }

    fn failure(program: &Program) -> String {
        let folder = tempfile::tempdir().unwrap();
        let started = Server::start(program, folder.path(), &Interrupt::default());
        format!("{:#}", started.err().expect("nothing was started"))
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let told = failure(&program("promantis-no-such-program", "its-package"));
        assert!(told.contains("apt install its-package"), "{told}");
    }

    #[test]
    fn a_server_that_ends_at_once_is_not_waited_for() {
        let told = failure(&program("true", ""));
        assert!(told.contains("ended with exit status: 0"), "{told}");
    }
}
