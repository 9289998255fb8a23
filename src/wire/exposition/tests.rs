//! What text exposition becomes, line by line and page by page.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

const LATEST: i64 = i64::MAX;

fn read(page: &str, format: Format) -> Page {
    parse(page.as_bytes(), format, &Limits::default(), LATEST)
}

/// One line as `name {a="b"} VALUE @TIMESTAMP`, or what is wrong with it.
fn shown(line: &[u8], format: Format) -> String {
    let ended = [line, b"\n# EOF\n"].concat();
    let page = parse(&ended, format, &Limits::default(), LATEST);
    assert_eq!(page.samples.len() + page.rejected.lines, 1, "a line is a sample or rejected: {page:?}");
    match page.samples.first() {
        Some(sample) => show(sample),
        None => format!("! {}", page.rejected.first[0].fault),
    }
}

fn show(sample: &Exposed) -> String {
    let mut text = sample.name.clone();
    for (name, value) in &sample.labels {
        let _ = write!(text, " {name}={value:?}");
    }
    let _ = write!(text, " -> {}", sample.value);
    if let Some(timestamp) = sample.timestamp {
        let _ = write!(text, " @{timestamp}");
    }
    text
}

#[track_caller]
fn check(line: &str, expected: &str) {
    assert_eq!(shown(line.as_bytes(), Format::Text), expected, "{line}");
}

#[track_caller]
fn check_open(line: &str, expected: &str) {
    assert_eq!(shown(line.as_bytes(), Format::OpenMetrics), expected, "{line}");
}

/// `prometheus_parse` 0.2.5 alone drops or alters the first ten of these without a word.
#[test]
fn lines_of_real_exporters_are_read_as_they_stand() {
    check(r#"job:http:rate5m{job="a"} 2"#, r#"job:http:rate5m job="a" -> 2"#);
    check(r#"route_total{handler="/api/v1/{id}"} 3"#, r#"route_total handler="/api/v1/{id}" -> 3"#);
    check("empty{} 7", "empty -> 7");
    check(r#"{"utf8.name", a="b"} 12"#, r#"utf8.name a="b" -> 12"#);
    check(r#"spaces { a = "b" , c = "d" } 13"#, r#"spaces a="b" c="d" -> 13"#);
    check(r#"comma{a="x,y",b="z"} 4"#, r#"comma a="x,y" b="z" -> 4"#);
    check(r#"eq{a="x=y"} 5"#, r#"eq a="x=y" -> 5"#);
    check(
        r#"esc{a="quo\"te",b="back\\slash",c="new\nline"} 6"#,
        r#"esc a="quo\"te" b="back\\slash" c="new\nline" -> 6"#,
    );
    check_open("om_total 8 1700000000.5", "om_total -> 8 @1700000000500");
    check_open(r#"om_bucket{le="1"} 9 # {trace_id="a, b"} 0.5 1700000000.25"#, r#"om_bucket le="1" -> 9"#);
    check("not_a_number NaN", "not_a_number -> NaN");
    check("infinite +Inf", "infinite -> inf");
    check("minus -Inf", "minus -> -inf");
    check("small 1.5e-7", "small -> 0.00000015");
    check("stamped 1 1700000000123", "stamped -> 1 @1700000000123");
    check("before_the_epoch 1 -62135596800000", "before_the_epoch -> 1 @-62135596800000");
    check(r#"trailing{a="b",} 10"#, r#"trailing a="b" -> 10"#);
    check("  indented\t 11 ", "indented -> 11");
    check("windows 14\r", "windows -> 14");
    check(r#"umlaut{stadt="Köln"} 15"#, r#"umlaut stadt="Köln" -> 15"#);
    check(r#"latency_bucket{le="+Inf"} 16"#, r#"latency_bucket le="+Inf" -> 16"#);
}

#[test]
fn names_in_quotes_are_names() {
    check(r#"{"a.b"} 1"#, "a.b -> 1");
    check(r#"{"a.b",} 1"#, "a.b -> 1");
    check(r#"{ "a \"b\"" , "c.d" = "e" } 1 5"#, r#"a "b" c.d="e" -> 1 @5"#);
    check(r#"up{"c.d"="e"} 1"#, r#"up c.d="e" -> 1"#);
    check(r#"{"c.d"="e"} 1"#, "! expected a metric name, found \" 1\"");
    check(r#"{a="b","late"} 1"#, "! expected `=`, found \"} 1\"");
    check(r#"up{"down"} 1"#, "! expected `=`, found \"} 1\"");
    check(r#"{""} 1"#, "! expected a label name, found \"\\\"\\\"} 1\"");
}

#[test]
fn labels_are_sorted_and_empty_ones_are_none() {
    check(r#"up{z="1",B="2",a="3",gone=""} 1"#, r#"up B="2" a="3" z="1" -> 1"#);
    check(r#"up{a="1",b="2",a="1"} 1"#, "! label \"a\" stands twice");
    check(r#"up{a="",a=""} 1"#, "! label \"a\" stands twice");
    check(
        r#"up{__name__="down"} 1"#,
        "! expected a label name other than `__name__`, found \"__name__=\\\"down\\\"} 1\"",
    );
}

#[test]
fn what_is_wrong_is_said() {
    check("<html>", "! expected a metric name or `{`, found \"<html>\"");
    check("7up 1", "! expected a metric name or `{`, found \"7up 1\"");
    check("up", "! expected a value, found \"\"");
    check("up one", "! expected a value, found \"one\"");
    check("up 1_000", "! expected a value, found \"1_000\"");
    check("up 1 soon", "! expected a timestamp in whole milliseconds, found \"soon\"");
    check("up 1 1700000000.5", "! expected a timestamp in whole milliseconds, found \"1700000000.5\"");
    check(
        "up 1 99999999999999999999",
        "! expected a timestamp in whole milliseconds, found \"99999999999999999999\"",
    );
    check("up 1 2 3", "! expected the end of the line, found \"3\"");
    check(r#"up{a="b} 1"#, "! quoted text does not end");
    check(r#"up{a="b\"#, "! quoted text does not end");
    check(r#"up{a="\d"} 1"#, "! unknown escape \\d in quoted text");
    check(r#"up{a="b"c="d"} 1"#, "! expected `,` or `}`, found \"c=\\\"d\\\"} 1\"");
    check(r#"up{,} 1"#, "! expected a label name, found \",} 1\"");
    check(r#"up{a=b} 1"#, "! expected `\"`, found \"b} 1\"");
    check(r#"up{a="b""#, "! expected `,` or `}`, found \"\"");
    check("up 1 # nonsense", "! expected the labels of an exemplar, found \"nonsense\"");
    check_open("up 1 NaN", "! expected a timestamp in seconds, found \"NaN\"");
    check_open("up 1 1e300", "! expected a timestamp in seconds, found \"1e300\"");
    assert_eq!(shown(b"up{a=\"\xff\"} 1", Format::Text), "! not UTF-8");
    check(
        &format!("é{}", "é".repeat(40)),
        &format!("! expected a metric name or `{{`, found {:?}", "é".repeat(16)),
    );
}

#[test]
fn limits_of_a_series_hold() {
    let labels = |count| (0..count).map(|index| format!("l{index}=\"v\",")).collect::<String>();
    assert!(shown(format!("up{{{}}} 1", labels(40)).as_bytes(), Format::Text).ends_with("-> 1"));
    check(&format!("up{{{}}} 1", labels(41)), "! more labels than 40");
    check(&format!("{} 1", "n".repeat(257)), "! name longer than 256 bytes");
    check(&format!("up{{{}=\"v\"}} 1", "n".repeat(257)), "! name longer than 256 bytes");
    check(&format!("up{{a=\"{}\"}} 1", "v".repeat(4097)), "! label value longer than 4096 bytes");
    let long: String = (0..5).map(|index| format!("l{index}=\"{}\",", "v".repeat(4000))).collect();
    check(&format!("up{{{long}}} 1"), "! label set longer than 16384 bytes");
}

#[test]
fn limits_of_a_page_hold_and_what_is_beyond_them_is_counted() {
    let limits = Limits { samples_max: 2, metadata_max: 1, ..Limits::default() };
    let page = "# TYPE a gauge\n# TYPE b gauge\na 1\nb 2\nc 3\nd 4 99\n";
    let page = parse(page.as_bytes(), Format::Text, &limits, 50);
    assert_eq!((page.samples.len(), page.kinds.len(), page.rejected.lines), (2, 1, 3));
    assert_eq!(page.rejected.first[0].to_string(), "line 2: more families than 1");
    assert_eq!(page.rejected.first[1].to_string(), "line 5: more samples than 2");
    let ahead = parse(b"d 4 51", Format::Text, &limits, 50);
    assert_eq!(
        ahead.rejected.first[0].to_string(),
        "line 1: timestamp 51 is later than 50, the latest that is taken"
    );
    let nonsense = read(&"?\n".repeat(1000), Format::Text);
    assert_eq!((nonsense.rejected.lines, nonsense.rejected.first.len()), (1000, REJECTED_KEPT));
}

#[test]
fn types_are_kept_and_other_comments_passed_over() {
    let page = "# HELP a, b and # TYPE\n# TYPE a counter\n#TYPE b gauge\n#\tTYPE \"c.d\" stateset\n# TYPES\n\
                # TYPE e untyped\n# TYPE a counter\n# UNIT a seconds\n##\n# EOF\na_total 1\n";
    let page = read(page, Format::Text);
    let kinds: Vec<_> = page.kinds.iter().map(|it| (&*it.family, it.kind)).collect();
    let expected = [("a", MetricKind::Counter), ("c.d", MetricKind::StateSet), ("e", MetricKind::Unknown)];
    assert_eq!((kinds.as_slice(), page.samples.len(), page.rejected.lines), (&expected[..], 1, 0));
    check("# TYPE a colour", "! expected a type, found \"colour\"");
    check("# TYPE {} gauge", "! expected a family's name, found \"{} gauge\"");
    let twice = read("# TYPE a gauge\n# TYPE a counter", Format::Text);
    assert_eq!(twice.rejected.first[0].to_string(), "line 2: second and different type of family \"a\"");
    assert_eq!(twice.kinds[0].kind, MetricKind::Gauge);
}

#[test]
fn an_open_metrics_page_ends_with_its_end() {
    let whole = read("a 1\n# EOF\n", Format::OpenMetrics);
    assert_eq!((whole.samples.len(), whole.rejected.lines), (1, 0));
    let cut = read("a 1\nb 2\n", Format::OpenMetrics);
    assert_eq!((cut.samples.len(), cut.rejected.lines), (2, 1));
    assert_eq!(cut.rejected.first[0].to_string(), "line 3: page ends without `# EOF`; it may be cut off");
    let more = read("a 1\n# EOF\n\nb 2\n# c\n", Format::OpenMetrics);
    assert_eq!((more.samples.len(), more.rejected.lines), (1, 2));
}

#[test]
fn the_content_type_names_the_format() {
    let check = |text, format| assert_eq!(Format::of(text), format, "{text}");
    check("application/openmetrics-text; version=1.0.0; charset=utf-8", Format::OpenMetrics);
    check("Application/OpenMetrics-Text", Format::OpenMetrics);
    check("text/plain; version=0.0.4", Format::Text);
    check("text/plain; note=application/openmetrics-text", Format::Text);
    check("", Format::Text);
}

/// A page such as a web service shows: histograms and summaries stay the series they are.
const SERVICE: &str = r#"# HELP http_request_duration_seconds Time to answer.
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{method="get",le="0.1"} 240
http_request_duration_seconds_bucket{method="get",le="1"} 254
http_request_duration_seconds_bucket{method="get",le="+Inf"} 260
http_request_duration_seconds_sum{method="get"} 31.75
http_request_duration_seconds_count{method="get"} 260
# HELP rpc_seconds Time of a call.
# TYPE rpc_seconds summary
rpc_seconds{quantile="0.5"} 0.012
rpc_seconds{quantile="0.99"} NaN
rpc_seconds_sum 17.5
rpc_seconds_count 1400
# TYPE queue_length gauge
queue_length 3
# TYPE jobs_total counter
jobs_total{state="done"} 1.5e+06 1700000000000
jobs_total{state="failed"} 12
process_open_fds 9
"#;

#[test]
fn buckets_and_quantiles_stay_series() {
    let page = read(SERVICE, Format::Text);
    assert_eq!((page.samples.len(), page.kinds.len(), page.rejected.lines), (13, 4, 0));
    assert_eq!(
        show(&page.samples[2]),
        r#"http_request_duration_seconds_bucket le="+Inf" method="get" -> 260"#
    );
    assert_eq!(show(&page.samples[5]), r#"rpc_seconds quantile="0.5" -> 0.012"#);
}

/// Both readers agree on every line that the guard lets through; a change of `prometheus_parse` that alters one shows
/// here.
#[track_caller]
fn check_readers_agree(page: &str, format: Format, plain_least: usize) {
    let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut plain = 0;
    for line in lines {
        let Some(mut one) = super::plain::read(line, format) else { continue };
        let mut other = strict::sample(line, format).expect("the strict reader takes what is plain");
        assert_eq!((one.arrange(), other.arrange()), (Ok(()), Ok(())));
        assert_eq!(show(&one), show(&other), "{line}");
        plain += 1;
    }
    assert!(plain >= plain_least, "only {plain} lines were plain");
}

#[test]
fn both_readers_agree_on_plain_pages() {
    check_readers_agree(SERVICE, Format::Text, 13);
    check_readers_agree(SERVICE, Format::OpenMetrics, 12);
}

#[test]
fn what_is_said_of_a_line_is_short_and_cannot_steer_a_terminal() {
    let long = "n".repeat(9000);
    let said = |line: String| {
        let page = read(&line, Format::Text);
        page.rejected.first.first().map(ToString::to_string).unwrap_or_default()
    };
    let cut = "n".repeat(32);
    assert_eq!(
        said(format!("a{{{long}=\"1\",{long}=\"2\"}} 1")),
        format!("line 1: label \"{cut}\" stands twice")
    );
    let types = format!("# TYPE {long} gauge\n# TYPE {long} counter");
    assert_eq!(said(types), format!("line 2: second and different type of family \"{cut}\""));
    assert_eq!(said("a{b=\"\\\u{1b}\"} 1".to_owned()), "line 1: unknown escape \\\\u{1b} in quoted text");
}

#[test]
fn a_line_far_longer_than_its_labels_may_be_is_not_looked_into() {
    let line = |labels: usize| format!("a{{{}}} 1", "b=\"\",".repeat(labels));
    let said = |labels| read(&line(labels), Format::Text).rejected.first.first().map(|it| it.fault.clone());
    assert_eq!(said(13_000), Some(Fault::DuplicateLabel("b".to_owned())));
    assert_eq!(said(14_000), Some(Fault::TooLong { what: "line", max: 64 << 10 }));
}

proptest! {
    /// Whatever the bytes, each line is a sample, a comment or rejected, and nothing panics.
    #[test]
    fn nothing_vanishes(lines in prop::collection::vec("[a-z_:{}\"=, \\\\#0-9.é-]{0,24}", 0..20)) {
        let page = parse(lines.join("\n").as_bytes(), Format::Text, &Limits::default(), LATEST);
        let said = lines.iter().filter(|line| !line.trim_ascii().is_empty() && !line.trim_ascii().starts_with('#'));
        prop_assert_eq!(page.samples.len() + page.rejected.lines, said.count());
    }

    /// What is written by the rules is read back, whichever reader takes it.
    #[test]
    fn what_was_written_is_read(
        name in "[a-z_:][a-z0-9_:]{0,8}",
        labels in prop::collection::btree_map("[a-z]{1,4}", "[a-z,={}\" \\\\\nä]{1,8}", 0..4),
        value in any::<f64>().prop_filter("equals itself", |value| !value.is_nan()),
        timestamp in prop::option::of(any::<i64>()),
    ) {
        let escape = |value: &str| value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
        let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let timestamp_text = timestamp.map(|it| format!(" {it}")).unwrap_or_default();
        let line = format!("{name}{{{}}} {value}{timestamp_text}", pairs.join(","));
        let page = read(&line, Format::Text);
        let expected = Exposed { name, labels: labels.into_iter().collect(), value, timestamp };
        prop_assert_eq!(page.samples, vec![expected]);
    }

    /// Both readers agree on all that is plain.
    #[test]
    fn both_readers_agree_on_plain_lines(
        line in "[a-z_]{1,6}(\\{([a-z]{1,3}=\"[a-z. /ä]{0,6}\",){1,3}\\})? -?[0-9]{1,4}(\\.[0-9]{1,3})?( -?[0-9]{1,17})?",
    ) {
        if let Some(mut plain) = super::plain::read(&line, Format::Text) {
            let mut strict = strict::sample(&line, Format::Text).expect("plain lines are right");
            prop_assert_eq!(plain.arrange(), strict.arrange());
            plain.labels.sort();
            strict.labels.sort();
            prop_assert_eq!(plain, strict);
        }
    }
}
