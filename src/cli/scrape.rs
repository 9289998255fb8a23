//! `promantis scrape`: judges what one exporter exposes, without a Prometheus.

mod flags;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use tokio::time::MissedTickBehavior;

use super::{Failure, Signals, load, runtime};
use crate::app::{App, Origin, Source};
use crate::edge::clock::unix_ms;
use crate::edge::scrape::{Scraped, Scraper, Target};
use crate::edge::shards::Surroundings;
use crate::engine::monitor::Plan;
use flags::{Flags, Style};

/// Scrapes from one summary to the next.
const SUMMARY_EVERY: u64 = 20;
/// How long to wait for the judgement of a scrape before its flags are told with the next one.
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// How often to look whether it is there.
const SETTLE_STEP: Duration = Duration::from_millis(2);

/// What `scrape` can be told.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Page to scrape: http://HOST[:PORT]/PATH. Without a path, /metrics.
    url: String,
    /// Time from one scrape to the next: 15s, 500ms, 1m.
    #[arg(long, default_value = "15s", value_parser = interval)]
    interval: Duration,
    /// End after so many scrapes; fail if none succeeded. Without it, scrape until stopped.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Configuration file. Without it: one monitor over every series, and nothing is sent anywhere.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Value of the label `job`.
    #[arg(long, value_name = "NAME", default_value = "scrape")]
    job: String,
    /// Where to listen, whatever the configuration says; port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Write flags as JSON, one object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: Options) -> Result<(), Failure> {
    let target = Target::new(&options.url, &options.job, options.interval);
    let target = target.map_err(|bad| Failure::Usage(bad.to_string()))?;
    let style = if options.json { Style::Json } else { Style::Text };
    let origin = options.config.map_or(Origin::Text(CONFIGURATION), Origin::File);
    let source = Source { origin, listen: Some(options.listen) };
    let config = load(&source)?;
    runtime()?.block_on(async {
        let plan = Arc::clone(&config.plan);
        let mut signals = Signals::listen()?;
        let app = App::start(config, source).await?;
        announce(&target, &plan, app.addr());
        let mut watch = Watch::new(target, app.around(), style);
        let ended = tokio::select! {
            // A reload that fails has been logged and counted; the old configuration stays.
            () = signals.until_stopped(|| drop(app.reload())) => Ok(()),
            ended = watch.run(options.count) => ended,
        };
        app.stop().await;
        ended?;
        watch.finish(options.count)
    })
}

/// Without a file nothing is left behind.
const CONFIGURATION: &str = "journal: {path: memory}";

/// Reads a positive duration such as `15s` or `1m 30s`.
fn interval(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write for example 15s, 500ms or 1m");
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

/// Says on standard error what will happen, and from when on flags can be expected.
fn announce(target: &Target, plan: &Plan, page: SocketAddr) {
    let interval = target.interval();
    let warm_up = plan.monitors.iter().map(|monitor| monitor.policy.warm_up).max().unwrap_or_default();
    eprintln!("scraping {target} every {interval:?}; page at http://{page}/");
    eprintln!("flags can rise after {warm_up} samples, {:?}", interval.saturating_mul(warm_up));
}

/// Scrapes, and tells what comes of it.
struct Watch {
    scraper: Scraper,
    interval: Duration,
    around: Surroundings,
    flags: Flags,
    scrapes: u64,
    failed: u64,
    last: Option<Scraped>,
}

impl Watch {
    fn new(target: Target, around: &Surroundings, style: Style) -> Self {
        let interval = target.interval();
        let scraper = Scraper::new(target, Arc::clone(&around.journal), Arc::clone(&around.metrics));
        let flags = Flags::new(style);
        Self { scraper, interval, around: around.clone(), flags, scrapes: 0, failed: 0, last: None }
    }

    /// Scrapes `count` times, or until it is dropped.
    async fn run(&mut self, count: Option<u64>) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while count.is_none_or(|count| self.scrapes < count) {
            ticks.tick().await;
            let scraped = self.scraper.scrape(unix_ms()).await;
            self.scrapes += 1;
            self.failed += u64::from(scraped.failure.is_some());
            self.last = Some(scraped);
            self.settle().await;
            self.tell_flags()?;
            if self.scrapes % SUMMARY_EVERY == 1 {
                self.summarise();
            }
        }
        Ok(())
    }

    /// Waits until the scrape is judged; not for ever, since the journal may have other writers.
    async fn settle(&self) {
        let deadline = Instant::now() + SETTLE_MAX;
        while self.around.journal.waiting_bytes() > 0 && Instant::now() < deadline {
            tokio::time::sleep(SETTLE_STEP).await;
        }
    }

    fn tell_flags(&mut self) -> anyhow::Result<()> {
        self.flags.tell(&self.around.recent.episodes()).context("write to standard output")
    }

    fn summarise(&self) {
        let Self { scrapes, failed, last, .. } = self;
        let (raised, open) = self.flags.counts();
        let samples = last.as_ref().map_or(0, |last| last.samples);
        let trouble = last.as_ref().and_then(Scraped::trouble).map(|trouble| format!("; {trouble}"));
        let trouble = trouble.unwrap_or_default();
        eprintln!(
            "scrapes: {scrapes}, failed: {failed}; flags raised: {raised}, open: {open}; samples: {samples}{trouble}"
        );
    }

    /// Tells what was judged while stopping, and whether there was anything to judge.
    fn finish(mut self, count: Option<u64>) -> Result<(), Failure> {
        self.tell_flags()?;
        self.summarise();
        match count {
            Some(_) if self.failed == self.scrapes && self.scrapes > 0 => {
                Err(anyhow::anyhow!("every scrape failed").into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_positive_duration() {
        let check =
            |text: &str, ms| assert_eq!(interval(text).ok(), Some(Duration::from_millis(ms)), "{text}");
        check("15s", 15_000);
        check("500ms", 500);
        check("1m 30s", 90_000);
        for text in ["", "15", "soon", "-15s"] {
            let expected = format!("`{text}` is no duration; write for example 15s, 500ms or 1m");
            assert_eq!(interval(text), Err(expected));
        }
    }
}
