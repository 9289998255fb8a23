//! Configuration files: what they mean, and what is said about those that are wrong.

mod durability;

use std::path::{Path, PathBuf};
use std::time::Duration;

use promantis::config::{self, Config, KEYS, derived_per_series};
use promantis::edge::limits::{JournalSettings, ReceiveLimits};
use promantis::edge::send::spec::TargetSpec;
use promantis::engine::detect::DetectorKind;
use promantis::engine::monitor::{Direction, Monitor, StaticLimits, TransformChoice};
use promantis::series::{LabelRun, LabelRunBuf};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/config").join(name)
}

#[track_caller]
fn good(text: &str) -> Config {
    config::parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// The one monitor that has `keys`, each line a key.
#[track_caller]
fn monitor(keys: &str) -> Monitor {
    let config = good(&format!("monitors:\n  - name: one\n    {}\n", keys.replace('\n', "\n    ")));
    Monitor::clone(&config.plan.monitors[0])
}

/// The one target that has `keys`, each line a key.
#[track_caller]
fn target(keys: &str) -> TargetSpec {
    let url = "url: http://host/write";
    let config = good(&format!("remote_write:\n  - {url}\n    {}\n", keys.replace('\n', "\n    ")));
    config.targets[0].clone()
}

/// The errors of `text`, without the name of the file.
#[track_caller]
fn errors(text: &str) -> String {
    let errors = config::parse(text).expect_err(text).to_string();
    errors.replace("configuration:", "")
}

/// Whether `key: value` below `section` is understood.
#[track_caller]
fn check(section: &str, key: &str, values: &[&str], refused: &[&str]) {
    let parse = |value: &str| {
        let (head, indent) = match section {
            "" => (String::new(), ""),
            "remote_write" | "forward" => (format!("{section}:\n  - url: http://host/write\n"), "    "),
            "monitors" => ("monitors:\n  - name: one\n".to_owned(), "    "),
            "forecast" => {
                ("monitors:\n  - name: one\n    forecast:\n      method: linear\n".to_owned(), "      ")
            }
            other => (format!("{}:\n", other.replace('/', ":\n  ")), "  "),
        };
        config::parse(&format!("{head}{indent}{key}: {value}\n"))
    };
    for value in values {
        assert_eq!(parse(value).err(), None, "{section} {key}: {value}");
    }
    for value in refused {
        let errors = parse(value).map(|_| ()).expect_err(&format!("{section} {key}: {value}"));
        let wanted = |path: &str| path.contains(key.rsplit('/').next().unwrap_or(key));
        assert!(errors.errors.iter().any(|error| wanted(&error.path)), "{section} {key}: {value}: {errors}");
    }
}

#[test]
fn nothing_written_is_one_fast_monitor_over_every_series() {
    for text in
        ["", "\n# only words\n", "{}", "monitors:\nlimits: null\nremote_write: ~\n", "\u{feff}journal:"]
    {
        let config = good(text);
        assert_eq!(config.listen.to_string(), "127.0.0.1:9900");
        assert_eq!(config.receive, ReceiveLimits::default());
        assert_eq!(config.journal, JournalSettings::default());
        assert_eq!((config.targets, config.forward, config.history), (vec![], vec![], None));
        let limits = config.plan.limits;
        assert_eq!((limits.series_max, limits.new_series_per_second), (100_000, 1000));
        assert_eq!(limits.idle_eviction_ms, 3_600_000);
        let [monitor] = &*config.plan.monitors else { panic!("one monitor: {text}") };
        assert_eq!(&*monitor.name, "default");
        assert!(monitor.select.matches(LabelRun::from_canonical(&LabelRunBuf::default().encode())));
        assert_eq!(monitor.detectors, &DetectorKind::ALL[..5]);
        assert_eq!(monitor.transform, TransformChoice::Auto);
        assert_eq!(monitor.static_limits, StaticLimits::default());
        assert_eq!(monitor.forecast, None);
        assert_eq!(derived_per_series(monitor), 2);
        let policy = monitor.policy;
        assert_eq!(policy.direction, Direction::Both);
        assert_eq!((policy.min_deviation_absolute, policy.min_deviation_relative), (0.0, 0.0));
        assert_eq!((policy.warm_up, policy.trigger_ms, policy.recovery_ms), (60, 300_000, 300_000));
        assert_eq!((policy.fraction, policy.accept_after_ms), (0.6, 7_200_000));
    }
    let prometheus_url = std::env::var("PROMETHEUS_URL").ok();
    assert_eq!(config::load(None), config::parse_with("", prometheus_url.as_deref()));
}

#[test]
fn a_target_has_the_defaults_of_its_type() {
    let expected = TargetSpec::new("http://host/write".parse().unwrap(), "host:80/write");
    assert_eq!(target(""), expected);
}

#[test]
fn every_error_is_reported_with_its_line_and_path() {
    let broken = r#"listen: everywhere
limits:
  series_max: 0
  connection: 5
journal:
  sync: always
remote_write:
  - url: https://host/write
  - url: http://user:hunter2@host/write
    timeout: 30
  - name: nowhere
monitors:
  - name: one
    select: 'up{job="a"'
    derection: above
    direction: abvoe
    window:
      fraction: 60
      trigger: [1m]
    detectors: [zscore, sigma]
    forecast: soon
  - name: one
    static: {upper: 1, lower: 2}
    emit: [score, forecast]
  - 5
"#;
    let expected = "\
1: listen: `everywhere` is no address and port; write for example 127.0.0.1:9900
3: limits.series_max: `0` must be at least 1
4: limits.connection: unknown field `connection`; did you mean `connections`?
6: journal.sync: unknown mode `always`; known are batch, interval, never
8: remote_write[0].url: TLS is not available; put a proxy in front and write its http:// address
9: remote_write[1].url: credentials do not belong in a URL; use `basic_auth` or a bearer token
10: remote_write[1].timeout: `30` is no duration; write for example 30s, 5m, 1h30m or 7d
11: remote_write[2].url: is required
14: monitors[0].select: expected `,` or `}`, found the end at character 11
15: monitors[0].derection: unknown field `derection`; did you mean `direction`?
16: monitors[0].direction: unknown direction `abvoe`; did you mean `above`?
18: monitors[0].window.fraction: `60` must be above 0 and at most 1
19: monitors[0].window.trigger: expected a single value
20: monitors[0].detectors[1]: unknown detector `sigma`; known are zscore, rolling_zscore, mad, iqr, baseline, static
21: monitors[0].forecast: expected a mapping of `key: value`
22: monitors[1].name: `one` is the name of monitors[0], too
23: monitors[1].static.upper: 1 must be above `lower` of 2
24: monitors[1].emit: `forecast` needs horizons; add `forecast: {}` for the default one
25: monitors[2]: expected a mapping of `key: value`";
    assert_eq!(errors(broken), expected);
}

#[test]
fn what_is_no_yaml_is_reported_with_its_line() {
    for (text, expected) in [
        ("a: b: c", "1: invalid YAML: mapping values are not allowed in this context"),
        ("listen: 127.0.0.1:1\nlisten: 127.0.0.1:2", "2: key `listen` stands here and in line 1"),
        ("\n- one", "2: expected a mapping of `key: value`"),
        ("words", "1: expected a mapping of `key: value`"),
        ("limits: &one {}\nmonitors: *one", "1: anchors and aliases are refused"),
        ("listen: !!str x", "1: tags are refused"),
        ("{[]: x}", "1: a key must be a single value"),
        ("journal:\n---\nlimits:", "2: more than one document"),
        (&format!("a:\n {}", "- ".repeat(100)), "2: more than 128 columns of indentation"),
    ] {
        let errors = errors(text);
        assert_eq!(errors, expected, "{text}");
    }
    assert!(errors(&"[".repeat(300)).starts_with("1: "));
    assert!(errors(&format!("a: {}", "[".repeat(300))).contains("recursion limit"));
    assert_eq!(errors(&"#".repeat((1 << 20) + 1)), " 1048577 bytes exceed the limit of 1048576");
}

/// The parser puts both into a line that is not there; found by fuzzing.
#[test]
fn what_is_missing_at_the_end_is_reported_in_the_last_line() {
    assert_eq!(errors("a: 1\nbad"), "2: invalid YAML: simple key expected");
    assert_eq!(errors("remote_write:\n-"), "2: remote_write[0].url: is required");
}

#[test]
fn a_message_is_one_line_whatever_is_written() {
    assert_eq!(
        errors("listen: \"a\\nb\\x1b\""),
        "1: listen: `a\\nb\\u{1b}` is no address and port; write for example 127.0.0.1:9900"
    );
    let long = errors(&format!("\"{}\\n\": x", "y".repeat(900)));
    assert!(long.chars().count() < 1020 && long.ends_with('…') && !long.contains('\n'), "{long}");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_of_the_file() {
    let errors = config::load(Some(Path::new("nowhere.yml"))).expect_err("no such file");
    assert!(errors.to_string().starts_with("nowhere.yml: open: "), "{errors}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bytes.yml");
    std::fs::write(&path, b"\xff\xfe").unwrap();
    assert!(config::load(Some(&path)).expect_err("no text").to_string().contains(": read: "));
    std::fs::write(&path, "x: 1").unwrap();
    let errors = config::load(Some(&path)).expect_err("unknown field").to_string();
    assert!(
        errors.contains(
            "bytes.yml:1: x: unknown field `x`; known are listen, remote_write, forward, history, journal,"
        ),
        "{errors}"
    );
}

#[test]
fn edge_values_of_the_process_are_met() {
    check(
        "",
        "listen",
        &["127.0.0.1:0", "'[::1]:9900'", "0.0.0.0:1"],
        &["localhost:1", "127.0.0.1", "'1.2.3.4:99999'"],
    );
    check("limits", "series_max", &["1", "4294967295"], &["0", "-1", "1.5"]);
    check("limits", "new_series_per_second", &["1"], &["0"]);
    check("limits", "idle_eviction", &["1ms", "100y"], &["0", "101y"]);
    check("limits", "body_bytes", &["1", "96MiB"], &["0", "x"]);
    check("limits", "decoded_bytes", &["1", "120MiB"], &["0", "x"]);
    check("limits", "in_flight_bytes", &["40MiB"], &["39MiB", "0"]);
    check("limits", "connections", &["1"], &["0"]);
    check("limits", "connections_per_ip", &["0", "1"], &["-1"]);
    for key in ["header_timeout", "body_timeout", "idle_timeout"] {
        check("limits", key, &["1ms", "1h"], &["0", "5"]);
    }
}

#[test]
fn edge_values_of_a_target_are_met() {
    check("remote_write", "name", &["x", &"ü".repeat(255)], &["''", "\"\\n\"", &"x".repeat(256)]);
    check("remote_write", "timeout", &["1ms"], &["0"]);
    check("remote_write", "when_full", &["drop_oldest", "hold_back"], &["drop", "true"]);
    check("remote_write", "max_sample_age", &["0", "1ms"], &["-1s"]);
    check("remote_write", "max_samples_per_send", &["1"], &["0"]);
    check("remote_write", "protocol", &["1.0", "\"2.0\""], &["2", "3.0", "v2"]);
    check("remote_write", "min_backoff", &["1ms", "5s"], &["0"]);
    check("remote_write", "max_backoff", &["30ms", "1h"], &["29ms", "0"]);
    check(
        "remote_write",
        "headers",
        &["{X-Scope-OrgID: a}", "{}"],
        &["[]", "{'a b': c}", "{Host: x}", "{a: \"\\n\"}"],
    );
    check("remote_write", "headers", &[], &["{authorization: x}", "{A: x, a: y}", "{a: }", "{a: []}"]);
    assert_eq!(target("max_sample_age: 0").max_sample_age, None);
    assert_eq!(target("max_sample_age: 5m").max_sample_age, Some(Duration::from_secs(300)));
}

#[test]
fn urls_are_plain_http_without_credentials() {
    for (url, name) in [
        ("http://host", "host:80/"),
        ("http://host:9090/api/v1/write", "host:9090/api/v1/write"),
        ("http://[::1]:9090/w?token=hunter2", "[::1]:9090/w"),
    ] {
        let config = good(&format!("remote_write: [{{url: '{url}'}}]"));
        assert_eq!(config.targets[0].name, name);
        assert!(!format!("{config:?}").contains("hunter2"));
    }
    for url in [
        "",
        "host:9090",
        "/path",
        "ftp://host",
        "http://",
        "http://hunter2@host",
        "https://u:hunter2@host",
        "a b",
        "http://hunter2:99999/w",
        "http://hunter2:0/w",
        "http://hunter2:/w",
    ] {
        let errors = errors(&format!("remote_write: [{{url: '{url}'}}]"));
        assert!(
            errors.starts_with("1: remote_write[0].url: ") && !errors.contains("hunter2"),
            "{url}: {errors}"
        );
    }
    assert_eq!(
        errors("remote_write:\n  - url: http://host\n  - url: http://host/\n"),
        "3: remote_write[1].name: `host:80/` is the name of remote_write[0], too; choose another"
    );
}

#[test]
fn secrets_come_from_files_and_the_environment_and_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "hunter2\n").unwrap();
    let path = folder.path().join("promantis.yml");
    let load = |keys: &str| {
        let url = "remote_write:\n  - url: http://host";
        std::fs::write(&path, format!("{url}\n    {}\n", keys.replace('\n', "\n    "))).unwrap();
        config::load(Some(&path)).map(|config| {
            assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
            config.targets[0]
                .headers
                .iter()
                .map(|(name, value)| format!("{name}={}", value.expose()))
                .collect()
        })
    };
    let header = |value: &str| Ok(vec![format!("authorization={value}")]);
    // base64 of `me:hunter2`
    assert_eq!(load("basic_auth: {username: me, password_file: password}"), header("Basic bWU6aHVudGVyMg=="));
    assert_eq!(load("bearer_token_file: password"), header("Bearer hunter2"));
    let path_of_programs = std::env::var("PATH").unwrap();
    assert_eq!(load("bearer_token_env: PATH"), header(&format!("Bearer {path_of_programs}")));
    assert_eq!(load("headers: {X-Key: hunter2}"), Ok(vec!["x-key=hunter2".to_owned()]));
    for (keys, expected) in [
        ("basic_auth: {username: me}", "basic_auth: needs `password_file` or `password_env`"),
        ("basic_auth: {password_file: password}", "basic_auth.username: is required"),
        ("basic_auth: {username: 'm:e', password_file: password}", "basic_auth.username: has a colon"),
        ("basic_auth: {username: me, password_file: gone}", "basic_auth.password_file: open `"),
        ("basic_auth: {username: me, password: hunter2}", "unknown field `password`; "),
        (
            "bearer_token_env: PROMANTIS_UNSET",
            "bearer_token_env: environment variable `PROMANTIS_UNSET` is not set",
        ),
        (
            "bearer_token_env: PATH\nbearer_token_file: password",
            "bearer_token_env: excludes `bearer_token_file`",
        ),
        (
            "bearer_token_file: password\nbasic_auth: {username: me, password_file: password}",
            "basic_auth: excludes a bearer token",
        ),
    ] {
        let errors = load(keys).expect_err(keys).to_string();
        assert!(errors.contains(expected) && !errors.contains("hunter2"), "{keys}: {errors}");
    }
}

#[test]
fn edge_values_of_a_monitor_are_met() {
    check("monitors", "select", &["up", "'{}'", "'{__name__=~\"a|b\"}'"], &["''", "'rate(up[5m])'", "{}"]);
    check("monitors", "transform", &["auto", "value", "rate"], &["none", "Auto"]);
    check("monitors", "profile", &["fast"], &["accurate", "[fast]"]);
    check(
        "monitors",
        "detectors",
        &["[mad]", "[mad, zscore]"],
        &["[]", "[mad, mad]", "[static]", "mad", "[fast]"],
    );
    check(
        "monitors",
        "static",
        &["{upper: 5GiB}", "{lower: -1, upper: 0}", "{}"],
        &["{upper: 1, lower: 1}", "{upper: nan}"],
    );
    check("monitors", "direction", &["both", "above", "below"], &["up", "true"]);
    check(
        "monitors",
        "min_deviation",
        &["{absolute: 0, relative: 250%}"],
        &["{absolute: -1}", "{relative: -1%}", "5"],
    );
    check("monitors", "warm_up", &["0", "4294967295"], &["-1", "1m"]);
    check(
        "monitors",
        "window",
        &["{trigger: 0, recovery: 0, fraction: 100%}"],
        &["{fraction: 0}", "{fraction: 1.1}"],
    );
    check("monitors", "window", &["{}"], &["{trigger: -1s}", "{recovery: 1}"]);
    check("monitors", "accept_after", &["1ms", "100y"], &["0"]);
    check(
        "monitors",
        "emit",
        &["[flag]", "[score, expected, detectors, direction]"],
        &["[]", "[x]", "[flag, flag]", "flag"],
    );
    check("forecast", "horizons", &["[1ms]", "[1h, 30m]"], &["[]", "[0]", "[1h, 60m]", "1h"]);
    let many: Vec<_> = (1..=17).map(|hours| format!("{hours}h")).collect();
    check(
        "forecast",
        "horizons",
        &[&format!("[{}]", many[1..].join(", "))],
        &[&format!("[{}]", many.join(", "))],
    );
    check("forecast", "upper", &["5GiB", "-1"], &["x"]);
    assert_eq!(errors("monitors: [{forecast: {method: prophet}}]").matches("method").count(), 2);
    assert_eq!(
        errors("monitors: []"),
        "1: monitors: names no monitor; leave it out for one over every series"
    );
    assert!(
        errors("monitors: [{profile: fast, detectors: [mad]}]").contains("profile: excludes `detectors`")
    );
}

#[test]
fn detectors_stand_in_their_own_order_and_limits_bring_theirs() {
    use DetectorKind::{Iqr, Mad, Static, ZScore};
    assert_eq!(monitor("detectors: [iqr, zscore, mad]").detectors, [ZScore, Mad, Iqr]);
    assert_eq!(monitor("static: {upper: 5}").detectors, DetectorKind::ALL);
    assert_eq!(monitor("detectors: []\nstatic: {lower: 5}").detectors, [Static]);
    assert_eq!(monitor("detectors: [static]\nstatic: {lower: 5}").detectors, [Static]);
    let limits = StaticLimits { upper: Some(5_368_709_120.0), lower: None };
    assert_eq!(monitor("static: {upper: 5GiB}").static_limits, limits);
}

#[test]
fn horizons_ascend_and_keep_how_they_were_written() {
    let forecast = monitor("forecast: {horizons: [24h, 1h, 90m]}").forecast.expect("a forecast");
    let written: Vec<_> = forecast.horizons.iter().map(|horizon| (horizon.ms, &*horizon.label)).collect();
    assert_eq!(written, [(3_600_000, "1h"), (5_400_000, "90m"), (86_400_000, "24h")]);
    assert!(monitor("forecast: {}").emit.forecast);
    assert!(!monitor("forecast: {}\nemit: [score]").emit.forecast);
}

#[test]
fn what_is_written_back_is_counted() {
    for (keys, expected) in [
        ("emit: [score]", 1),
        ("emit: [score, flag, direction, expected]", 6),
        ("emit: [detectors]", 5),
        ("emit: [detectors]\nstatic: {upper: 1}", 6),
        ("forecast: {horizons: [1h, 4h]}", 2 + 6),
        ("forecast: {horizons: [1h, 4h], lower: 5GiB}", 2 + 6 + 3),
        ("forecast: {horizons: [1h], lower: 5, upper: 6}\nemit: [forecast]", 3 + 6),
        ("forecast: {horizons: [1h], lower: 5, upper: 6}\nemit: [flag]", 1),
    ] {
        assert_eq!(derived_per_series(&monitor(keys)), expected, "{keys}");
    }
}

#[test]
fn what_nobody_reads_is_a_failure_in_words() {
    for arguments in [&["check"][..], &["check", "--json"], &["check", "--reference"]] {
        let (reader, writer) = std::io::pipe().expect("the system has pipes");
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_promantis"));
        let ended = command.args(arguments).stdout(writer).stderr(std::process::Stdio::piped()).output();
        let ended = ended.expect("the program starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.starts_with("promantis: write to standard output: "), "{arguments:?}: {said}");
    }
}

#[test]
fn the_examples_load_and_say_default_where_it_is() {
    let minimal = config::load(Some(&example("minimal.yml"))).expect("minimal.yml");
    assert_eq!(Config { targets: Vec::new(), ..minimal.clone() }, good(""));
    assert_eq!(minimal.targets.len(), 1);
    let full = config::load(Some(&example("full.yml"))).expect("full.yml");
    let text = std::fs::read_to_string(example("full.yml")).unwrap();
    for key in KEYS {
        let name = key.path.rsplit(['.', ' ']).next().unwrap();
        assert!(text.contains(&format!("{name}:")), "full.yml lacks {}", key.path);
    }
    let folder = tempfile::tempdir().unwrap();
    for secret in ["remote.password", "remote.token"] {
        std::fs::copy(example(secret), folder.path().join(secret)).unwrap();
    }
    let without: Vec<_> = text.lines().map(without_default).collect();
    assert!(without.iter().filter(|line| line.trim().is_empty()).count() > 30);
    let path = folder.path().join("short.yml");
    std::fs::write(&path, without.join("\n")).unwrap();
    assert_eq!(config::load(Some(&path)), Ok(full));
}

/// The line, emptied but for the dash of a list where its comment says that it is the default.
fn without_default(line: &str) -> String {
    let Some((before, comment)) = line.split_once(" # default") else { return line.to_owned() };
    if comment.starts_with(':') {
        return line.to_owned();
    }
    let indent = before.find(|c| c != ' ' && c != '-').unwrap_or_default();
    before[..indent].to_owned()
}

#[test]
fn the_reference_tells_the_defaults_that_hold() {
    let reference = config::reference();
    assert!(reference.contains("\n| `limits.series_max` | `100000` | "));
    assert!(reference.contains("\n| `monitors[].window.trigger` | `5m` | "));
    assert!(reference.contains("\n| `remote_write[].url` |  | Required. "));
}

proptest::proptest! {
    /// Whatever is written, the answer is a configuration or errors.
    #[test]
    fn no_text_is_too_strange(text in "([a-z\\-:,\\[\\]{}'\"#&*!|>%?~ \n\t0-9.]|monitors:|name:|\n  - |limits:){0,40}") {
        let _ = config::parse(&text);
    }
}
