//! Filling a gap from history: against a server that answers as it is told, and against real ones.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::AUTHORIZATION;
use promantis::edge::history::{BODY_BYTES_MAX, Body, HistoryError, HistorySpec, fill};
use promantis::edge::send::spec::Secret;
use promantis::engine::select::Matchers;
use promantis::series::{LabelRunBuf, Sample};
use promantis::wire::decode::{Limits, Protocol, decode};
use promantis::wire::encode::RequestBuilder;
use promantis::wire::snappy;

use crate::support::peers::{Peer, free_addr};
use crate::support::stack::{self, query};
use crate::support::teller::{Teller, matrix};
use crate::support::until::until;

/// What a body may take to be seen by queries.
const PATIENCE: Duration = Duration::from_secs(30);

fn spec(teller: &Teller) -> HistorySpec {
    HistorySpec::new(format!("http://{}/base/?key=swordfish", teller.addr).parse().expect("a URL"))
}

/// All bodies that fill the gap.
fn filled(spec: &HistorySpec, selectors: &[&str], gap: Range<i64>) -> Result<Vec<Body>, HistoryError> {
    let selectors: Vec<_> =
        selectors.iter().map(|text| Matchers::parse(text).expect("it is right")).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut filling = fill(spec, &selectors, gap)?;
        let mut all = Vec::new();
        while let Some(bodies) = filling.next().await? {
            all.extend(bodies);
        }
        Ok(all)
    })
}

/// Each body's samples, decoded: `series value@timestamp`.
fn shown(bodies: &[Body]) -> Vec<Vec<String>> {
    let show = |body: &Body| {
        let raw = snappy::decompress(&body.bytes, 2 * BODY_BYTES_MAX).expect("a body is snappy");
        let decoded = decode(Protocol::V1, raw, &Limits::default(), i64::MAX).expect("a body is a request");
        assert!(decoded.refused.is_empty(), "{:?}", decoded.refused);
        let line = |series: promantis::series::Series<'_>| {
            let Sample { timestamp, value } = series.samples[0];
            format!("{} {value}@{timestamp}", series.labels)
        };
        decoded.batch.iter().map(line).collect()
    };
    bodies.iter().map(show).collect()
}

#[track_caller]
fn check_error(answer: (&'static str, String), expected: &str) {
    let teller = Teller::start(move |_| answer.clone());
    let mut spec = spec(&teller);
    spec.headers.push((AUTHORIZATION, Secret::new("Bearer hunter2")));
    let error = filled(&spec, &["up"], 0..1000).expect_err(expected).to_string();
    assert_eq!(error.replace(&teller.addr.to_string(), "ADDR"), expected);
}

#[test]
fn a_gap_is_asked_for_ten_minutes_at_a_time_and_told_minute_by_minute() {
    let teller = Teller::start(|form| match &*form["time"] {
        "602" => matrix(&[
            (r#""__name__":"up","job":"b""#, r#"[1,"0"],[2,"1"],[62,"1"]"#),
            (r#""__name__":"up","job":"a""#, r#"[3,"1"],[601.5,"1"]"#),
        ]),
        _ => matrix(&[(r#""__name__":"up","job":"a""#, r#"[601.5,"1"],[700,"NaN"]"#)]),
    });
    let bodies = filled(&spec(&teller), &["up"], 1500..700_001).expect("it answers");
    let expected = vec![
        vec![r#"up{job="a"} 1@3000"#, r#"up{job="b"} 1@2000"#],
        vec![r#"up{job="b"} 1@62000"#],
        vec![r#"up{job="a"} 1@601500"#],
        vec![r#"up{job="a"} NaN@700000"#],
    ];
    assert_eq!(shown(&bodies), expected);
    assert_eq!(teller.queries(), ["up[602s]@602", "up[101s]@701"]);
}

#[test]
fn a_query_is_a_form_with_the_headers_that_are_set() {
    let teller = Teller::start(|_| matrix(&[]));
    let mut spec = spec(&teller);
    spec.headers.push((AUTHORIZATION, Secret::new("Bearer hunter2")));
    assert_eq!(filled(&spec, &["up # all"], 0..1000), Ok(vec![]));
    let asked = teller.asked.lock().expect("no test panics here");
    let (head, form) = &asked[0];
    assert_eq!(form["query"], "up # all\n[3s]");
    for line in [
        "post /base/api/v1/query?key=swordfish http/1.1",
        "authorization: bearer hunter2",
        "content-type: application/x-www-form-urlencoded",
        "accept: application/json",
    ] {
        assert!(head.contains(&format!("{line}\r\n")), "{line} in {head}");
    }
}

#[test]
fn a_series_of_several_selectors_comes_once_and_our_own_never() {
    let teller = Teller::start(|form| {
        let up = (r#""__name__":"up""#, r#"[1,"1"]"#);
        let score = (r#""__name__":"ml_anomaly_score""#, r#"[1,"9"]"#);
        let load = (r#""__name__":"load","job":"a""#, r#"[1,"2"]"#);
        if form["query"].starts_with("up") { matrix(&[up, score]) } else { matrix(&[up, load]) }
    });
    let bodies = filled(&spec(&teller), &["up", "{job=~'.*'}", "up"], 0..2000).expect("it answers");
    assert_eq!(shown(&bodies), [["up 1@1000", r#"load{job="a"} 2@1000"#]]);
    let named = r#"{__name__!="", __name__!~"ml_.*", job=~'.*'}[4s]@3"#;
    assert_eq!(teller.queries(), ["up[4s]@3", named]);
}

#[test]
fn less_is_asked_for_where_it_was_too_much() {
    let seconds = |form: &BTreeMap<String, String>| -> u64 {
        let range = form["query"].split(['[', ']']).nth(1).expect("a range");
        range.trim_end_matches('s').parse().expect("a number of seconds")
    };
    let teller = Teller::start(move |form| match seconds(form) {
        ..=152 => matrix(&[(r#""__name__":"up""#, r#"[1,"1"],[299,"2"]"#)]),
        _ => ("422 Unprocessable Entity", "query processing would load too many samples".to_owned()),
    });
    let bodies = filled(&spec(&teller), &["up"], 0..300_000).expect("it answers");
    assert_eq!(shown(&bodies), [["up 1@1000"], ["up 2@299000"]]);
    let queries = ["up[302s]@301", "up[152s]@151", "up[152s]@301"];
    assert_eq!(teller.queries(), queries);
}

#[test]
fn what_is_no_answer_is_said_without_secrets() {
    let text = |status, text: &str| (status, text.to_owned());
    check_error(
        text("400 Bad Request", "parse error\nfor Bearer hunter2 at ?key=swordfish"),
        "http://ADDR/base/ answered 400 Bad Request: parse error\\nfor <secret> at ?<secret>",
    );
    check_error(text("302 Found", ""), "http://ADDR/base/ answered 302 Found: ");
    check_error(
        text("422 Unprocessable Entity", "too much"),
        "http://ADDR/base/ answered 422 Unprocessable Entity: too much",
    );
    check_error(
        text("200 OK", "<html>"),
        "answer of http://ADDR/base/ is not understood: expected value at line 1 column 1",
    );
}

#[test]
fn an_answer_without_end_is_cut() {
    let teller = Teller::start(|_| ("200 OK", " ".repeat((256 << 20) + 1)));
    let error = filled(&spec(&teller), &["up"], 0..1000).expect_err("too large").to_string();
    let expected =
        format!("answers of http://{}/base/ exceed 268435456 bytes; select fewer series", teller.addr);
    assert_eq!(error, expected);
}

#[test]
fn a_silent_server_and_none_at_all_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let mut spec = HistorySpec::new(format!("http://{addr}").parse().expect("a URL"));
    spec.timeout = Duration::from_millis(50);
    let slow = filled(&spec, &["up"], 0..1000).expect_err("it is silent").to_string();
    assert_eq!(slow, format!("no whole answer of http://{addr}/ within `history.timeout` of 50ms"));
    drop(listener);
    spec.timeout = PATIENCE;
    let gone = filled(&spec, &["up"], 0..1000).expect_err("nobody is there").to_string();
    assert!(gone.starts_with(&format!("ask http://{addr}/: ")) && gone.contains("refused"), "{gone}");
}

#[test]
fn a_part_that_failed_is_asked_for_again() {
    let asked = Mutex::new(0);
    let teller = Teller::start(move |_| {
        let mut asked = asked.lock().expect("no test panics here");
        *asked += 1;
        if *asked == 1 {
            ("503 Service Unavailable", String::new())
        } else {
            matrix(&[(r#""__name__":"up""#, r#"[0,"1"]"#)])
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let up = Matchers::parse("up").expect("it is right");
    runtime.block_on(async {
        let mut filling = fill(&spec(&teller), &[up], 0..1000).expect("the address is right");
        assert!(filling.next().await.is_err());
        assert_eq!(shown(&filling.next().await.expect("it answers now").expect("samples")), [["up 1@0"]]);
        assert_eq!(filling.next().await, Ok(None));
    });
}

/// A sample every 15 seconds of the last quarter of an hour, of three series, pushed to `peer` and asked for again.
fn check_real(peer: &Peer, path: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_millis() as i64;
    let mut expected: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    let mut request = RequestBuilder::new();
    // Odd milliseconds, so that a rounded timestamp is seen. Values are short: VictoriaMetrics rounds long ones.
    let start = now - 900_057;
    for timestamp in (start..now).step_by(15_000) {
        for (name, job) in [("load", "a\"\\\n"), ("load", "b"), ("ml_anomaly_score", "b")] {
            let labels: LabelRunBuf = [("__name__", name), ("job", job)].into_iter().collect();
            let value = (timestamp % 7919) as f64 / 8.0;
            request.push(&[&labels.encode()], Sample { timestamp, value });
            if name == "load" {
                expected
                    .entry(timestamp)
                    .or_default()
                    .push(format!("load{{job={job:?}}} {value}@{timestamp}"));
            }
        }
    }
    let reply = peer.post(path, &snappy::compress(&request.finish()));
    assert!((200..300).contains(&reply.status), "{reply:?}");
    until(PATIENCE, "the last sample is seen", || {
        (query(peer, "count_over_time(load[1h])").first()?.1 == expected.len() as f64).then_some(())
    });
    let spec = HistorySpec::new(format!("http://{}", peer.addr).parse().expect("a URL"));
    // From a sample on, up to a sample without it.
    let gap = start + 15_000..start + 15_000 * 50;
    let mut wanted: Vec<_> = expected.range(gap.clone()).flat_map(|(_, lines)| lines.clone()).collect();
    assert_eq!(wanted.len(), 2 * 49);
    wanted.sort();
    for selectors in [&["{}"][..], &["load{job='b'}", "load # all"]] {
        let bodies = filled(&spec, selectors, gap.clone()).expect("it answers");
        assert!(bodies.windows(2).all(|pair| pair[0].latest < pair[1].oldest), "{selectors:?}");
        let mut lines = shown(&bodies).concat();
        lines.sort();
        assert_eq!(lines, wanted, "{selectors:?}");
    }
}

#[test]
fn prometheus_tells_what_it_was_sent_to_the_millisecond() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    check_real(&stack::prometheus(dir.path(), free_addr(), ""), "/api/v1/write");
}

#[test]
fn victoria_metrics_tells_what_it_was_sent_to_the_millisecond() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    check_real(&stack::victoria_metrics(dir.path(), free_addr()), "/api/v1/write");
}
