//! The keys of what lasts: the journal, forwarding and history.

use std::path::{Path, PathBuf};
use std::time::Duration;

use promantis::config::{self, Config};
use promantis::edge::history::HistorySpec;
use promantis::edge::limits::{JournalSettings, Place, SyncMode};
use promantis::edge::send::spec::{TargetSpec, WhenFull};

use super::{check, errors, good};

#[test]
fn edge_values_of_the_journal_are_met() {
    check("journal", "path", &["memory", "", "data", "/a/b", "./memory"], &["''", "[]", "\"\\0\""]);
    check("journal", "max_bytes", &["64MiB", "1TiB"], &["64MB", "0", "many"]);
    check("journal", "max_age", &["1m", "100y"], &["59s", "0"]);
    check("journal", "sync", &["batch", "interval", "never"], &["always", "true"]);
    check("journal", "snapshot_interval", &["100ms", "1d"], &["99ms", "0"]);
    assert_eq!(
        errors("limits: {decoded_bytes: 50MiB}\njournal: {max_bytes: 99MiB}"),
        "2: journal.max_bytes: 103809024 is below twice `limits.decoded_bytes`, 104857600"
    );
    assert_eq!(
        errors("journal: {max_bytes: 1MiB}"),
        "1: journal.max_bytes: 1048576 is below the least of 67108864, 64MiB"
    );
}

#[test]
fn the_journal_takes_what_is_written() {
    let keys = "{path: memory, max_bytes: 3GiB, max_age: 2h, sync: interval, snapshot_interval: 10s}";
    let expected = JournalSettings {
        place: Place::Memory,
        max_bytes: 3 << 30,
        max_age: Duration::from_secs(7200),
        sync: SyncMode::Interval,
        snapshot_interval: Duration::from_secs(10),
    };
    assert_eq!(good(&format!("journal: {keys}")).journal, expected);
    assert_eq!(good("journal: {sync: never}").journal.sync, SyncMode::Never);
}

#[test]
fn a_written_path_starts_at_the_file_and_the_default_at_the_working_directory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("promantis.yml");
    let check = |text: &str, expected: &Path| {
        std::fs::write(&file, text).unwrap();
        let place = config::load(Some(&file)).unwrap_or_else(|errors| panic!("{errors}")).journal.place;
        assert_eq!(place, Place::Folder(PathBuf::from(expected)), "{text}");
    };
    check("", Path::new("data"));
    check("journal: {sync: never}", Path::new("data"));
    check("journal: {path: kept}", &folder.path().join("kept"));
    check("journal: {path: ./memory}", &folder.path().join("./memory"));
    check("journal: {path: /var/lib/promantis}", Path::new("/var/lib/promantis"));
}

#[test]
fn edge_values_of_forwarding_are_met() {
    check("forward", "name", &["x"], &["''", &"x".repeat(256)]);
    check("forward", "timeout", &["1ms"], &["0"]);
    check("forward", "min_backoff", &["1ms", "5s"], &["0"]);
    check("forward", "max_backoff", &["30ms"], &["29ms"]);
    check("forward", "headers", &["{X-Scope-OrgID: a}"], &["{content-type: a}"]);
    check("forward", "when_full", &["drop_oldest", "hold_back"], &["drop"]);
    check("forward", "max_sample_age", &[], &["55m"]);
    check("forward", "max_samples_per_send", &[], &["2000"]);
    assert_eq!(errors("forward: [{name: x}]"), "1: forward[0].url: is required");
}

#[test]
fn a_forward_target_holds_back_and_sends_whatever_the_age() {
    let expected = TargetSpec {
        when_full: WhenFull::HoldBack,
        max_sample_age: None,
        ..TargetSpec::new("http://host/push".parse().unwrap(), "host:80/push")
    };
    assert_eq!(good("forward: [{url: 'http://host/push'}]").forward, [expected]);
    let policy = |text: &str| good(text).targets[0].when_full;
    assert_eq!(policy("remote_write: [{url: 'http://host/'}]"), WhenFull::DropOldest);
    assert_eq!(policy("remote_write: [{url: 'http://host/', when_full: hold_back}]"), WhenFull::HoldBack);
}

#[test]
fn a_name_is_that_of_one_target_whether_it_is_written_or_forwarded_to() {
    assert_eq!(
        errors("forward:\n  - url: http://host/w\nremote_write:\n  - url: http://host/w\n"),
        "2: forward[0].name: `host:80/w` is the name of remote_write[0], too; choose another"
    );
    assert_eq!(
        errors("forward:\n  - {url: 'http://a', name: x}\n  - {url: 'http://b', name: x}\n"),
        "3: forward[1].name: `x` is the name of forward[0], too; choose another"
    );
}

#[test]
fn history_is_asked_where_there_is_an_address() {
    let history = |text: &str| good(text).history;
    let base = |url: &'static str| HistorySpec::new(hyper::Uri::from_static(url));
    assert_eq!(history("history: {timeout: 5s}"), None);
    assert_eq!(history("history: {url: 'http://host:9090'}"), Some(base("http://host:9090")));
    let spec =
        history("history: {url: 'http://host', timeout: 5s, max_gap: 2h, headers: {X-Scope-OrgID: a}}");
    let spec = spec.expect("there is an address");
    assert_eq!((spec.timeout, spec.max_gap), (Duration::from_secs(5), Duration::from_secs(7200)));
    assert_eq!(spec.headers.len(), 1);
    check("history", "url", &["http://host/prometheus"], &["host:9090", "https://host", "http://u@host"]);
    check("history", "timeout", &["1ms"], &["0"]);
    check("history", "max_gap", &["1ms", "100y"], &["0"]);
    check("history", "headers", &["{A: b}"], &["{accept: b}", "{Authorization: b}"]);
    check("history", "basic_auth", &[], &["{username: me}"]);
    let labels: Vec<_> = (0..40).map(|number| format!("l{number}: x")).collect();
    let (long, many) = (format!("{{a: {}}}", "x".repeat(20_000)), format!("{{{}}}", labels.join(", ")));
    check(
        "history",
        "labels",
        &["{cluster: eu, __replica__: a}", "{}"],
        &["{__name__: up}", "{a: }", "{a: ''}", "[a]", &long, &many],
    );
    check("history", "bearer_token_env", &["PATH"], &["PROMANTIS_UNSET"]);
}

#[test]
fn fetched_series_get_the_external_labels_but_the_replica() {
    let spec = good("history: {url: 'http://host', labels: {cluster: eu, shard: 1, __replica__: a}}").history;
    let labels: Vec<_> = spec.expect("there is an address").labels.into_iter().collect();
    assert_eq!(labels, [("cluster", "eu"), ("shard", "1")].map(|(name, value)| (name.into(), value.into())));
}

#[test]
fn the_environment_stands_in_for_an_address_that_is_not_written() {
    let parse = |text: &str, url: &str| config::parse_with(text, Some(url));
    let url = |config: Config| config.history.map(|history| history.url.to_string());
    let check = |text: &str, environment: &str, expected: Option<&str>| {
        let config = parse(text, environment).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(url(config).as_deref(), expected, "{text} {environment}");
    };
    check("", "http://host:9090", Some("http://host:9090/"));
    check("history: {max_gap: 2h}", "http://host:9090", Some("http://host:9090/"));
    check("history: {url: 'http://mine'}", "http://host:9090", Some("http://mine/"));
    check("history: {url: 'http://mine'}", "nonsense", Some("http://mine/"));
    check("", " ", None);
    let wrong = parse("\nhistory:\n  max_gap: 2h", "http://me:hunter2@host").expect_err("credentials");
    let said =
        "configuration:2: history.url: environment variable `PROMETHEUS_URL`: credentials do not belong";
    assert!(wrong.to_string().starts_with(said) && !wrong.to_string().contains("hunter2"), "{wrong}");
}

#[test]
fn check_says_where_everything_goes_and_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("promantis.yml");
    let said = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_promantis"));
        let output =
            command.arg("check").arg(&file).env_remove("PROMETHEUS_URL").output().expect("it starts");
        String::from_utf8(output.stdout).expect("it is text")
    };
    let plain = said("journal: {path: memory}");
    assert!(plain.contains("\njournal in memory, at most 2147483648 bytes and 86400 s\n"), "{plain}");
    assert!(!plain.contains("forwards") && !plain.contains("gaps"), "{plain}");
    let full = said(
        "forward: [{url: 'http://host/push?key=hunter2'}]\nhistory: {url: 'http://host'}\njournal: {path: /kept}",
    );
    for line in
        ["forwards to http://host/push", "journal in \"/kept\", sync batch, ", "fills gaps from http://host/"]
    {
        assert!(full.contains(&format!("\n{line}")), "{full}");
    }
    assert!(!full.contains("hunter2"), "{full}");
}
