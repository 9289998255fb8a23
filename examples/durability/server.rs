//! A server: this program again, or another build, as the command `serve` of promantis, in a process of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::SERIES;
use crate::load::{Load, Sent};
use crate::peer::{self, Connection};

/// How long it may take to be ready, and to judge and deliver what it was sent.
const PATIENCE: Duration = Duration::from_secs(120);
/// More than are sent: each shard has its part of it, and not the same part of the series.
const SERIES_MAX: usize = 2 * SERIES;
/// How often it is asked.
const PROBE: Duration = Duration::from_millis(50);

/// See the module. Ends when dropped.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    addr: SocketAddr,
    process: Child,
    /// Samples that it was sent.
    sent: usize,
}

/// What one load cost.
pub(crate) struct Measured {
    pub(crate) samples: usize,
    pub(crate) cpu_seconds: f64,
    pub(crate) syncs_per_second: f64,
    pub(crate) sent: Sent,
}

impl Server {
    /// Starts it with a folder of its own below `folder`, and waits until it is ready.
    pub(crate) fn start(
        name: &'static str,
        (program, journal): (&Path, &str),
        sink: SocketAddr,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let folder = folder.join(name);
        fs::create_dir(&folder)?;
        let config = folder.join("promantis.yml");
        fs::write(
            &config,
            format!(
                "journal: {{{journal}}}
remote_write: [{{name: sink, url: \"http://{sink}/api/v1/write\", max_sample_age: 0}}]
limits: {{series_max: {SERIES_MAX}, new_series_per_second: {SERIES_MAX}, connections_per_ip: 0}}
"
            ),
        )?;
        let addr = peer::free_addr()?;
        let process = Command::new(program)
            .args(["serve", "--log=warn", &format!("--listen={addr}")])
            .arg("--config")
            .arg(&config)
            .current_dir(&folder)
            .spawn()?;
        let server = Self { name, addr, process, sent: 0 };
        let ready = || {
            let asked = Connection::open(addr).and_then(|mut connection| connection.get("/-/ready"));
            Ok(asked.is_ok_and(|(status, _)| status == 200))
        };
        until(ready).with_context(|| format!("the server `{name}` is not ready"))?;
        Ok(server)
    }

    /// Sends a load and waits until all of it is judged and delivered.
    pub(crate) fn measure(&mut self, load: &Load, rate: usize) -> anyhow::Result<Measured> {
        let syncs = self.syncs()?;
        let cpu = peer::cpu_seconds(self.process.id())?;
        let begin = Instant::now();
        let sent = load.send(self.addr, rate)?;
        let took = begin.elapsed();
        let syncs = self.syncs()? - syncs;
        self.sent += load.samples();
        until(|| self.is_done()).with_context(|| format!("the server `{}` lags behind", self.name))?;
        let cpu_seconds = peer::cpu_seconds(self.process.id())? - cpu;
        let syncs_per_second = syncs / took.as_secs_f64();
        Ok(Measured { samples: load.samples(), cpu_seconds, syncs_per_second, sent })
    }

    fn syncs(&self) -> anyhow::Result<f64> {
        Ok(value(&self.metrics()?, "promantis_journal_sync_seconds_count"))
    }

    fn is_done(&self) -> anyhow::Result<bool> {
        let page = self.metrics()?;
        let seen = value(&page, "promantis_samples_judged_total");
        let derived = value(&page, "promantis_derived_samples_total");
        ensure!(seen <= self.sent as f64, "more was judged than sent");
        ensure!(value(&page, "promantis_samples_skipped_total") == 0.0, "samples were skipped");
        Ok(seen == self.sent as f64 && value(&page, "promantis_remote_write_samples_total") >= derived)
    }

    fn metrics(&self) -> anyhow::Result<String> {
        Ok(Connection::open(self.addr)?.get("/metrics")?.1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The sum of a metric over all its labels; 0 where the page does not have it.
fn value(page: &str, name: &str) -> f64 {
    let lines = page.lines().filter_map(|line| line.strip_prefix(name));
    let values = lines.filter(|rest| rest.starts_with(['{', ' '])).filter_map(|rest| rest.rsplit(' ').next());
    values.filter_map(|value| value.parse::<f64>().ok()).sum()
}

fn until(done: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !done()? {
        ensure!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        sleep(PROBE);
    }
    Ok(())
}
