//! `promantis demo --stack`: promantis among the installed Prometheus, Alertmanager and node exporter.
//!
//! The files of `examples/prometheus` are in the program; here they get free ports, and seconds where a real
//! system has minutes. Everything lives in a temporary directory and ends with the command.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::super::scratch::Scratch;
use super::super::{Failure, Signals, runtime, show};
use crate::app::{App, Origin, Source};

/// How long a program may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a program is looked at.
const PAUSE: Duration = Duration::from_millis(100);
/// How much of its log is shown of a program that ended, lines.
const LOG_LINES: usize = 5;

/// The files of the example, by name.
const FILES: [(&str, &str); 4] = [
    ("prometheus.yml", include_str!("../../../examples/prometheus/prometheus.yml")),
    ("rules.yml", include_str!("../../../examples/prometheus/rules.yml")),
    ("alertmanager.yml", include_str!("../../../examples/prometheus/alertmanager.yml")),
    ("promantis.yml", include_str!("../../../examples/prometheus/promantis.yml")),
];

/// What makes a slow example quick.
const HURRY: [(&str, &str); 5] = [
    ("_interval: 15s", "_interval: 1s"),
    ("for: 1m", "for: 5s"),
    ("for: 2m", "for: 10s"),
    ("group_wait: 10s", "group_wait: 1s"),
    ("    select:", "    window: { trigger: 20s, recovery: 30s }\n    select:"),
];

/// A program of the stack.
struct Part {
    program: &'static str,
    package: &'static str,
    /// Where the example has it, and where it is here.
    example: &'static str,
    addr: SocketAddr,
    arguments: fn(&Path) -> Vec<String>,
}

/// What runs.
struct Running {
    program: &'static str,
    child: Child,
    log: PathBuf,
}

pub(super) fn run() -> Result<(), Failure> {
    let scratch = Scratch::new(&std::env::temp_dir(), "demo").context("make a temporary directory")?;
    let [prometheus, alertmanager, node, promantis] = free_addrs().context("find free ports")?;
    let parts = parts([node, alertmanager, prometheus]);
    write_files(scratch.path(), &parts, promantis).context("write the configuration")?;
    let source = Source { origin: Origin::File(scratch.path().join("promantis.yml")), listen: None };
    let config = source.load()?;
    runtime()?.block_on(async {
        let signals = Signals::listen()?;
        let app = App::start(config, source).await?;
        let outcome = among(&parts, scratch.path(), app.addr(), signals).await;
        app.stop().await;
        Ok(outcome?)
    })
}

/// Runs the programs around the promantis at `addr` until a signal asks to stop, or one of them ends.
async fn among(parts: &[Part], scratch: &Path, addr: SocketAddr, mut signals: Signals) -> anyhow::Result<()> {
    let mut running = Vec::new();
    let outcome = tokio::select! {
        () = signals.until_stopped(|| ()) => Ok(()),
        ended = start_and_watch(parts, scratch, addr, &mut running) => ended,
    };
    for one in running.iter_mut().rev() {
        // It may have ended by itself.
        let _ = one.child.kill().await;
    }
    tracing::info!("all programs are stopped");
    outcome
}

/// Ends only when a program does, or does not start.
async fn start_and_watch(
    parts: &[Part],
    scratch: &Path,
    addr: SocketAddr,
    running: &mut Vec<Running>,
) -> anyhow::Result<()> {
    for part in parts {
        running.push(part.start(scratch)?);
        let one = running.last_mut().expect("one was started");
        until_answered(one, part.addr).await?;
    }
    tell(parts, addr, scratch)?;
    until_one_ends(running).await
}

fn parts([node, alertmanager, prometheus]: [SocketAddr; 3]) -> [Part; 3] {
    [
        Part {
            program: "prometheus-node-exporter",
            package: "prometheus-node-exporter",
            example: "127.0.0.1:9100",
            addr: node,
            arguments: |_| Vec::new(),
        },
        Part {
            program: "prometheus-alertmanager",
            package: "prometheus-alertmanager",
            example: "127.0.0.1:9093",
            addr: alertmanager,
            arguments: |dir| {
                vec![
                    format!("--config.file={}", dir.join("alertmanager.yml").display()),
                    format!("--storage.path={}", dir.join("alertmanager").display()),
                    "--cluster.listen-address=".to_owned(),
                ]
            },
        },
        Part {
            program: "prometheus",
            package: "prometheus",
            example: "127.0.0.1:9090",
            addr: prometheus,
            arguments: |dir| {
                vec![
                    format!("--config.file={}", dir.join("prometheus.yml").display()),
                    format!("--storage.tsdb.path={}", dir.join("prometheus").display()),
                    "--web.enable-remote-write-receiver".to_owned(),
                ]
            },
        },
    ]
}

impl Part {
    fn start(&self, scratch: &Path) -> anyhow::Result<Running> {
        let log = scratch.join(format!("{}.log", self.program));
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let spawned = Command::new(self.program)
            .arg(format!("--web.listen-address={}", self.addr))
            .args((self.arguments)(scratch))
            .current_dir(scratch)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn();
        match spawned {
            Ok(child) => Ok(Running { program: self.program, child, log }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("{} is not installed; on Debian: apt install {}", self.program, self.package)
            }
            Err(error) => Err(error).with_context(|| format!("start {}", self.program)),
        }
    }
}

impl Running {
    /// Fails when it has ended, with the end of its log.
    fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(LOG_LINES).collect();
        let last: Vec<_> = lines.into_iter().rev().collect();
        bail!("{} ended with {status}:\n{}", self.program, last.join("\n"))
    }
}

async fn until_answered(one: &mut Running, addr: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(addr).await.is_err() {
        one.check()?;
        if Instant::now() > deadline {
            bail!("{} does not listen on {addr} after {PATIENCE:?}", one.program);
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

async fn until_one_ends(running: &mut [Running]) -> anyhow::Result<()> {
    loop {
        for one in &mut *running {
            one.check()?;
        }
        sleep(PAUSE).await;
    }
}

/// Says which pages there are. Standard output, one page a line, so that a program can read it, too.
fn tell(parts: &[Part], promantis: SocketAddr, scratch: &Path) -> anyhow::Result<()> {
    let mut pages = format!("promantis                 http://{promantis}/\n");
    for part in parts.iter().rev() {
        pages += &format!("{:<25} http://{}/\n", part.program, part.addr);
    }
    show(&pages)?;
    eprintln!(
        "Flags need a minute of samples. Make some load, and ask Prometheus for ml_anomaly_score > 1.\n\
         Configuration and logs are in {} until you press Ctrl-C",
        scratch.display()
    );
    Ok(())
}

/// Writes the example with ports of here, and in a hurry.
fn write_files(scratch: &Path, parts: &[Part], promantis: SocketAddr) -> io::Result<()> {
    for (name, text) in FILES {
        let mut text = text.replace("127.0.0.1:9900", &promantis.to_string());
        for part in parts {
            text = text.replace(part.example, &part.addr.to_string());
        }
        for (slow, quick) in HURRY {
            text = text.replace(slow, quick);
        }
        fs::write(scratch.join(name), text)?;
    }
    Ok(())
}

/// Addresses that nobody listens on, all different.
fn free_addrs() -> io::Result<[SocketAddr; 4]> {
    // All are held until all are known, so that none is given out twice.
    let held: Vec<_> =
        (0..4).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    let addrs: Vec<_> = held.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
    Ok(addrs.try_into().expect("four were asked for"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_and_delay_of_the_example_is_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let addrs = free_addrs().unwrap();
        write_files(scratch.path(), &parts([addrs[0], addrs[1], addrs[2]]), addrs[3]).unwrap();
        for (name, _) in FILES {
            let text = fs::read_to_string(scratch.path().join(name)).unwrap();
            for port in ["9090", "9093", "9100", "9900"] {
                assert!(!text.contains(&format!("127.0.0.1:{port}")), "{port} is left in {name}");
            }
        }
        for (slow, quick) in HURRY {
            let some = FILES.iter().any(|(_, text)| text.contains(slow));
            assert!(some, "{slow:?} stands in no file, {quick:?} is never written");
        }
        let source = Source { origin: Origin::File(scratch.path().join("promantis.yml")), listen: None };
        assert_eq!(source.load().map(|config| config.listen), Ok(addrs[3]));
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let scratch = tempfile::tempdir().unwrap();
        let part = Part {
            program: "promantis-no-such-program",
            package: "its-package",
            example: "",
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            arguments: |_| Vec::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error =
            runtime.block_on(async { part.start(scratch.path()).err() }).expect("nothing was started");
        assert!(error.to_string().contains("apt install its-package"), "{error}");
    }
}
