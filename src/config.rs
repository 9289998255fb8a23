//! Configuration: from one YAML file to checked types, or to all its errors at once.
//!
//! Every key has a default, so no file at all is a configuration, too: one monitor over every series, nothing sent
//! anywhere. Rooms of the program get checked types only; nothing in a [`Config`] can be invalid.

mod file;
mod history;
mod journal;
mod monitors;
mod reader;
mod remote;
mod secret;
mod targets;
mod units;

use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::edge::history::HistorySpec;
use crate::edge::limits::{JournalSettings, ReceiveLimits};
use crate::edge::send::spec::TargetSpec;
use crate::engine::monitor::{Plan, SeriesLimits};
use reader::{FILE_BYTES_MAX, Place, Problems};

pub use file::{KEYS, Key, reference};
pub use monitors::derived_per_series;

/// Everything that a user can decide, checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What the engine does.
    pub plan: Arc<Plan>,
    /// What bounds the receiving side.
    pub receive: ReceiveLimits,
    /// Where accepted requests are kept, and how safely.
    pub journal: JournalSettings,
    /// Where derived samples go; empty: nowhere.
    pub targets: Vec<TargetSpec>,
    /// Where accepted requests are passed on to, byte for byte; empty: nowhere. Names are unique among these and
    /// `targets`.
    pub forward: Vec<TargetSpec>,
    /// Who is asked for what came while nobody listened; `None`: gaps stay.
    pub history: Option<HistorySpec>,
}

/// Why a configuration cannot be used: every error in it, in the order of the file.
///
/// Written one per line as `file:line: path: message`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors {
    /// The file as it was named.
    pub file: String,
    /// At least one.
    pub errors: Vec<ConfigError>,
}

/// One error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// Line of the file, counted from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// Which key: `monitors[0].window.trigger`. Empty where none is meant.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// Reads the file at `path`; without a path, every default. Relative paths in it start at its folder.
///
/// Reads the files of secrets, too, and the environment variable `PROMETHEUS_URL`, which stands in for `history.url`.
/// Fails with all errors at once.
pub fn load(path: Option<&Path>) -> Result<Config, ConfigErrors> {
    let prometheus_url = std::env::var(history::URL_VARIABLE).ok();
    let prometheus_url = prometheus_url.as_deref();
    let Some(path) = path else { return parse_with("", prometheus_url) };
    let name = path.display().to_string();
    let text = read(path).map_err(|message| {
        let error = ConfigError { line: 0, path: String::new(), message };
        ConfigErrors { file: name.clone(), errors: vec![error] }
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    check(&text, Around { base, prometheus_url }).map_err(|errors| ConfigErrors { file: name, errors })
}

/// Reads the text of a file; empty text is every default. Relative paths in it start at the working directory.
/// Whatever the environment says of Prometheus is not looked at.
pub fn parse(text: &str) -> Result<Config, ConfigErrors> {
    parse_with(text, None)
}

/// The same; where `history.url` is not written, `prometheus_url` stands in for it.
pub fn parse_with(text: &str, prometheus_url: Option<&str>) -> Result<Config, ConfigErrors> {
    let around = Around { base: Path::new(""), prometheus_url };
    check(text, around).map_err(|errors| ConfigErrors { file: "configuration".to_owned(), errors })
}

/// What surrounds the text of a file.
#[derive(Clone, Copy)]
struct Around<'a> {
    /// Where relative paths start.
    base: &'a Path,
    /// What the environment says of Prometheus.
    prometheus_url: Option<&'a str>,
}

/// At most one byte more than a file may have: enough to see that it is too big.
fn read(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("open: {error}"))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| format!("read: {error}"))?;
    // Lossy: a file that is too big may be cut within a character, and its size is what is wrong with it.
    String::from_utf8(bytes).or_else(|error| match error.as_bytes().len() {
        ..=FILE_BYTES_MAX => Err("read: not valid UTF-8".to_owned()),
        _ => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    })
}

fn check(text: &str, around: Around<'_>) -> Result<Config, Vec<ConfigError>> {
    let lines = text.split('\n').count();
    // The parser says of what is missing at the end that it is missing behind the last line.
    let within = |error: ConfigError| ConfigError { line: error.line.min(lines), ..error };
    let node = reader::load(text).map_err(|error| vec![within(error)])?;
    let problems = Problems::default();
    let config = whole(&Place::top(&node, &problems), around);
    let errors = problems.into_sorted();
    if errors.is_empty() { Ok(config) } else { Err(errors.into_iter().map(within).collect()) }
}

fn whole(top: &Place<'_>, Around { base, prometheus_url }: Around<'_>) -> Config {
    top.check_keys();
    let limits = top.get("limits");
    limits.check_keys();
    let receive = receive_limits(&limits);
    let plan = Plan { monitors: monitors::read(&top.get("monitors")), limits: series_limits(&limits) };
    let targets = targets::read(&top.get("remote_write"), &top.get("forward"), base);
    Config {
        listen: top.get("listen").read(address),
        plan: Arc::new(plan),
        journal: journal::read(&top.get("journal"), base, receive.decoded_bytes_max),
        receive,
        targets: targets.remote_write,
        forward: targets.forward,
        history: history::read(&top.get("history"), base, prometheus_url),
    }
}

fn series_limits(limits: &Place<'_>) -> SeriesLimits {
    SeriesLimits {
        series_max: limits.get("series_max").read(units::positive_count) as usize,
        new_series_per_second: limits.get("new_series_per_second").read(units::positive_count),
        idle_eviction_ms: units::ms(limits.get("idle_eviction").read(units::positive_duration)),
    }
}

fn receive_limits(limits: &Place<'_>) -> ReceiveLimits {
    let receive = ReceiveLimits {
        body_bytes_max: limits.get("body_bytes").read(units::bytes),
        decoded_bytes_max: limits.get("decoded_bytes").read(units::bytes),
        in_flight_bytes_max: limits.get("in_flight_bytes").read(units::bytes),
        connections_max: limits.get("connections").read(units::positive_count) as usize,
        connections_per_ip_max: limits.get("connections_per_ip").read(units::count) as usize,
        header_timeout: limits.get("header_timeout").read(units::positive_duration),
        body_timeout: limits.get("body_timeout").read(units::positive_duration),
        idle_timeout: limits.get("idle_timeout").read(units::positive_duration),
        ..ReceiveLimits::default()
    };
    // Less could never take the largest request that is allowed: it would be answered 503 for ever.
    let least = receive.body_bytes_max.saturating_add(receive.decoded_bytes_max);
    if receive.in_flight_bytes_max < least {
        let given = receive.in_flight_bytes_max;
        let message = format!("{given} is below `body_bytes` and `decoded_bytes` together, {least}");
        limits.get("in_flight_bytes").fail(message);
    }
    receive
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no address and port; write for example 127.0.0.1:9900"))
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "\n" })?;
            write!(f, "{}:", self.file)?;
            if error.line > 0 {
                write!(f, "{}:", error.line)?;
            }
            if !error.path.is_empty() {
                write!(f, " {}:", error.path)?;
            }
            write!(f, " {}", error.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
