//! Receiving over real sockets: routes, limits, refusals and nonsense.

use std::sync::Arc;
use std::time::{Duration, Instant};

use promantis::edge::journal::record;
use promantis::edge::limits::ReceiveLimits;
use promantis::edge::log;
use promantis::wire::prompb::{v1, v2};

use crate::support::client::{self, Connection, Reply, V1, V2, V2Body};
use crate::support::server::{ServerProcess, Settings, TestServer};
use crate::support::until::until;

/// Long enough to be noticed, short enough to be awaited.
const SHORT: Duration = Duration::from_millis(60);
/// What a hostile request may take, the best of [`TRIES`] on a machine that does other things as well; code
/// without optimisation is given more.
const SHED_WITHIN: Duration = Duration::from_millis(if cfg!(debug_assertions) { 15_000 } else { 100 });
const TRIES: usize = 5;
/// How much memory a hostile request may make a process take.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

fn server_with(limits: ReceiveLimits) -> TestServer {
    TestServer::start_with(Settings { limits, ..Settings::default() })
}

fn good_body() -> Vec<u8> {
    client::v1_body(vec![client::v1_series(&[("__name__", "up"), ("job", "test")], 1.0)])
}

fn assert_refused(reply: &Reply, status: u16, fragment: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.body.starts_with("{\"error\":\"") && reply.body.contains(fragment), "{reply:?}");
    let comes_again = reply.header("retry-after").is_some();
    assert_eq!(comes_again, status == 503, "only a 503 says when to come again: {reply:?}");
}

#[test]
fn every_route_answers_its_method_and_refuses_others() {
    let server = TestServer::start();
    server.set_ready();
    let check = |method: &str, path: &str, status: u16, fragment: &str| {
        let reply = Connection::open(server.addr).request(method, path);
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        assert!(reply.body.contains(fragment), "{method} {path}: {reply:?}");
        reply
    };
    check("GET", "/health", 200, r#"{"status":"ok","models_loaded":0}"#);
    check("GET", "/-/healthy", 200, "healthy");
    check("GET", "/-/ready", 200, "ready");
    check("POST", "/-/reload", 200, "");
    check("GET", "/api/v1/echo?match=up", 200, "\"match=up\"");
    check("GET", "/", 404, r#"{"error":"no such route"}"#);
    check("GET", "/api/v1/write/", 404, "no such route");
    let metrics = check("GET", "/metrics", 200, "promantis_connections ");
    let content_type = metrics.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("application/openmetrics-text"), "{content_type}");
    for (method, path, allow) in [
        ("GET", "/api/v1/write", "POST"),
        ("PUT", "/api/v1/write", "POST"),
        ("GET", "/-/reload", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("DELETE", "/api/v1/echo", "GET, HEAD"),
    ] {
        assert_eq!(check(method, path, 405, allow).header("allow"), Some(allow));
    }
}

#[test]
fn a_failed_reload_says_why() {
    let reload = Arc::new(|| Err("monitors[0].select: unknown operator".to_owned()));
    let server = TestServer::start_with(Settings { reload, ..Settings::default() });
    let reply = Connection::open(server.addr).request("POST", "/-/reload");
    assert_refused(&reply, 500, "monitors[0].select: unknown operator");
}

#[test]
fn requests_in_flight_are_finished_and_idle_connections_closed_while_draining() {
    let mut server = TestServer::start();
    let mut idle = Connection::open(server.addr);
    assert_refused(&idle.request("GET", "/-/ready"), 503, "starting");
    server.set_ready();
    assert_eq!(idle.request("GET", "/-/ready").status, 200);

    let mut busy = Connection::open(server.addr);
    let body = good_body();
    let request = client::post_bytes(&[("Expect", "100-continue")], &body);
    busy.send(&request[..request.len() - body.len()]);
    assert_eq!(busy.reply().map(|reply| reply.status), Some(100), "the server waits for the body");

    let drained = server.shutdown(Duration::from_secs(10));
    assert!(idle.is_closed());
    busy.send(&body);
    assert_eq!(busy.reply().map(|reply| reply.status), Some(204));
    assert!(busy.is_closed());
    server.wait(drained).expect("draining does not fail");
    assert_eq!(server.accepted().len(), 1);
}

#[test]
fn draining_ends_when_its_time_is_over() {
    let mut server = TestServer::start();
    let mut stuck = Connection::open(server.addr);
    stuck
        .send(b"POST /api/v1/write HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(stuck.reply().map(|reply| reply.status), Some(100));
    let drained = server.shutdown(SHORT);
    server.wait(drained).expect("draining does not fail");
    assert!(stuck.is_closed());
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let server = server_with(ReceiveLimits { body_bytes_max: 1000, ..ReceiveLimits::default() });
    let mut connection = Connection::open(server.addr);
    connection.send(b"POST /api/v1/write HTTP/1.1\r\nHost: t\r\nContent-Length: 1001\r\n\r\n");
    assert_refused(&connection.reply().expect("an answer"), 400, "1000 bytes");
    connection.finish();
    assert!(connection.is_closed());
    let exact = Connection::open(server.addr).post(&[], &[0xff; 1000]);
    assert_refused(&exact, 400, "snappy");
}

#[test]
fn a_chunked_body_is_bounded_too() {
    let server = server_with(ReceiveLimits { body_bytes_max: 1000, ..ReceiveLimits::default() });
    let mut connection = Connection::open(server.addr);
    connection.send(b"POST /api/v1/write HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        connection.send(format!("190\r\n{}\r\n", "x".repeat(400)).as_bytes());
    }
    assert_refused(&connection.reply().expect("an answer"), 400, "1000 bytes");
    connection.finish();
    assert!(connection.is_closed());
}

#[test]
fn a_chunked_body_is_accepted() {
    let server = TestServer::start();
    let mut connection = Connection::open(server.addr);
    connection.send(b"POST /api/v1/write HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    for byte in good_body() {
        connection.send(&[b'1', b'\r', b'\n', byte, b'\r', b'\n']);
    }
    connection.send(b"0\r\n\r\n");
    assert_eq!(connection.reply().map(|reply| reply.status), Some(204));
    assert_eq!(server.accepted().len(), 1);
}

/// 47 bytes that declare 2.5 GB, from <https://github.com/prometheus/client_golang/issues/1917>.
const BOMB: &str =
    "97eab4890a170a085f5f6e616d655f5f120b746573745f6d6574726963121009000000000000f03f10d48fc9b2a333";

#[test]
fn bombs_are_refused_at_once_and_in_little_memory() {
    let check = |name: &str, content_type: &str, body: &[u8], fragment: &str| {
        let server = ServerProcess::spawn();
        assert_eq!(client::post(server.addr, V1, &good_body()).status, 204);
        let before = server.peak_bytes();
        let attempt = || {
            let started = Instant::now();
            assert_refused(&client::post(server.addr, content_type, body), 400, fragment);
            started.elapsed()
        };
        let first = attempt();
        let growth = server.peak_bytes() - before;
        let best = std::iter::repeat_with(attempt).take(TRIES - 1).fold(first, Duration::min);
        println!("{name}: {best:?}, {} KiB", growth >> 10);
        assert!(best < SHED_WITHIN, "{name} took {best:?}");
        assert!(growth < GROWTH_BYTES_MAX, "{name} took {growth} bytes of memory");
    };
    let digits = BOMB.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    let bomb: Vec<u8> = digits.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
    check("declared length", V1, &bomb, "decompressed");
    let empty_series = client::snappy(&[0x0a, 0x00].repeat(8 << 20));
    check("empty series", V1, &empty_series, "series");
    let labels = [0x0a, 0x00].repeat(8 << 20);
    let sample = [0x12, 0x09, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f];
    let one_series = [&[0x0a, 0x8b, 0x80, 0x80, 0x08], &labels[..], &sample].concat();
    check("empty labels", V1, &client::snappy(&one_series), "label");
    let empty_symbols = client::snappy(&[0x22, 0x00].repeat(8 << 20));
    check("empty symbols", V2, &empty_symbols, "symbols");
}

#[test]
fn a_peer_that_does_not_take_its_answers_is_let_go() {
    let server = server_with(ReceiveLimits { idle_timeout: SHORT, ..ReceiveLimits::default() });
    let mut connection = Connection::open(server.addr);
    let query = "q".repeat(8000);
    let request = format!("GET /api/v1/echo?{query} HTTP/1.1\r\nHost: t\r\n\r\n");
    let sent = (0..100_000).take_while(|_| connection.send(request.as_bytes())).count();
    assert!(sent < 100_000, "answers that nobody reads are bounded by buffers");
    server.wait_for_metric("promantis_connections", 0.0);
}

#[test]
fn bodies_beyond_the_memory_for_all_are_sent_away() {
    let limits = ReceiveLimits { in_flight_bytes_max: 100, ..ReceiveLimits::default() };
    let server = server_with(limits);
    let long = "x".repeat(500);
    let body = client::v1_body(vec![client::v1_series(&[("__name__", "up"), ("long", &long)], 1.0)]);
    assert!(body.len() < 100, "the body alone fits");
    assert_refused(&client::post(server.addr, V1, &body), 503, "in_flight_bytes_max");
    assert_refused(&client::post(server.addr, V1, &[7; 200]), 503, "in flight");
    assert_eq!(client::post(server.addr, V1, &good_body()).status, 204, "what fits is taken");
    server.wait_for_metric("promantis_request_bytes_in_flight", 0.0);
}

#[test]
fn the_largest_body_that_is_allowed_fits_into_the_least_memory_that_is() {
    // An unknown field of bytes that do not compress: body and decoded request are about as large.
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let raw: Vec<u8> = [0x7a, 0xe0, 0xc5, 0x08].into_iter().chain(noise.take(140_000)).collect();
    let (body_bytes_max, decoded_bytes_max) = (150_000, raw.len());
    let in_flight_bytes_max = body_bytes_max + decoded_bytes_max;
    let limits =
        ReceiveLimits { body_bytes_max, decoded_bytes_max, in_flight_bytes_max, ..ReceiveLimits::default() };
    let server = server_with(limits);
    assert_eq!(client::post(server.addr, V1, &client::snappy(&raw)).status, 204);
}

#[test]
fn who_leaves_a_body_unread_says_that_the_connection_ends() {
    let server = TestServer::start_with(Settings { waiting_bytes: 1, ..Settings::default() });
    let body = good_body();
    assert_eq!(client::post(server.addr, V1, &body).status, 204, "it is full after the first");
    let check = |head: &str, status: u16| {
        let mut connection = Connection::open(server.addr);
        connection.send(format!("{head} HTTP/1.1\r\nHost: t\r\nContent-Length: 900000\r\n\r\n").as_bytes());
        let reply = connection.reply().expect("an answer");
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{head}: {reply:?}");
        connection.finish();
        assert!(connection.is_closed(), "{head}");
    };
    check("POST /api/v1/write", 503);
    check("PUT /api/v1/write", 405);
    check("POST /-/reload", 200);
    check("GET /health", 200);
    check("POST /nowhere", 404);
    let mut connection = Connection::open(server.addr);
    let typed = client::post_bytes(&[("Content-Type", "text/plain")], &body);
    connection.send(&typed[..typed.len() - body.len()]);
    let reply = connection.reply().expect("an answer");
    assert_eq!((reply.status, reply.header("connection")), (415, Some("close")), "{reply:?}");
    let kept = Connection::open(server.addr).request("GET", "/health");
    assert_eq!(kept.header("connection"), None, "{kept:?}");
}

#[test]
fn a_full_journal_refuses_whole_requests_until_it_is_read() {
    let server = TestServer::start_with(Settings { waiting_bytes: 4000, ..Settings::default() });
    let mut body = V2Body::new();
    body.series(&[("__name__", "up")]).samples.push(client::v2_sample(1.0));
    let body = body.encode();
    let mut taken = 0;
    let refused = loop {
        let reply = client::post(server.addr, V2, &body);
        match reply.status {
            204 => taken += 1,
            _ => break reply,
        }
        assert!(taken < 1000, "the journal is bounded");
    };
    assert_refused(&refused, 503, "journal is full");
    assert_eq!(refused.written(), [Some(0); 3]);
    assert!(taken > 0);
    assert_eq!(server.accepted().len(), taken, "nothing of the refused request is there");
    assert_eq!(client::post(server.addr, V2, &body).status, 204);
}

/// Requests without any float sample were answered 204, and never came to a forward target.
#[test]
fn what_is_acknowledged_is_in_the_journal_though_engines_have_no_use_for_it() {
    let server = TestServer::start();
    let mut reader = log::Reader::default();
    let mut check = |name: &str, content_type: &str, body: &[u8], is_taken: bool| {
        assert_eq!(client::post(server.addr, content_type, body).status, 204, "{name}");
        let found = server.journal.read_log(&mut reader, u64::MAX, |head| head.kind == record::REQUEST);
        let found = found.expect("memory does not fail");
        let taken = found.as_ref().and_then(record::request);
        assert!(taken.iter().all(|request| request.forward && request.body == body), "{name}: {taken:?}");
        assert_eq!(taken.is_some(), is_taken, "{name}");
    };
    let mut body = V2Body::new();
    let (count, timestamp) = (Some(v2::histogram::Count::CountInt(0)), client::now_ms());
    let histogram = v2::Histogram { count, schema: 3, timestamp, ..v2::Histogram::default() };
    body.series(&[("__name__", "up")]).histograms.push(histogram);
    check("native histograms", V2, &body.encode(), true);
    let mut series = client::v1_series(&[("__name__", "up")], 1.0);
    series.exemplars.push(v1::Exemplar { timestamp, ..v1::Exemplar::default() });
    series.samples.clear();
    check("exemplars", V1, &client::v1_body(vec![series]), true);
    check("samples", V1, &good_body(), true);
    check("nothing", V1, &client::v1_body(Vec::new()), false);
    check("nothing", V2, &client::snappy(&[]), false);
}

/// What came after a leap of the wall clock arrived at one instant, until the clock got there: nothing that waits for
/// time to pass went on.
#[test]
fn time_goes_on_after_a_clock_that_was_ahead() {
    let server = TestServer::start();
    let ahead = client::now_ms() + 3_600_000;
    server.journal.append_tick(ahead).expect("a tick always fits");
    until(Duration::from_secs(20), "time goes on", || {
        assert_eq!(client::post(server.addr, V1, &good_body()).status, 204);
        (server.journal.arrival() > ahead).then_some(())
    });
    assert!(server.journal.arrival() < ahead + 3_600_000);
}

#[test]
fn a_slow_head_is_cut_off_however_many_bytes_trickle() {
    let server = server_with(ReceiveLimits { header_timeout: SHORT, ..ReceiveLimits::default() });
    let mut silent = Connection::open(server.addr);
    assert!(silent.is_closed());
    let mut trickling = Connection::open(server.addr);
    trickling.send(b"GET /health HTTP/1.1\r\nX-Slow: ");
    let started = Instant::now();
    while !trickling.is_closed_within(Duration::from_millis(5)) {
        trickling.send(b"x");
        assert!(started.elapsed() < Duration::from_secs(10), "one byte at a time holds the connection");
    }
    server.wait_for_metric("promantis_connections_refused_total{reason=\"header_timeout\"}", 2.0);
}

#[test]
fn a_slow_body_is_told_to_come_again() {
    let server = server_with(ReceiveLimits { body_timeout: SHORT, ..ReceiveLimits::default() });
    let mut connection = Connection::open(server.addr);
    let request = client::post_bytes(&[], &good_body());
    connection.send(&request[..request.len() - 1]);
    assert_refused(&connection.reply().expect("an answer"), 503, "too slowly");
    connection.finish();
    assert!(connection.is_closed());
    assert!(server.accepted().is_empty());
}

#[test]
fn a_body_that_ends_early_leaves_nothing() {
    let server = TestServer::start();
    let mut connection = Connection::open(server.addr);
    let request = client::post_bytes(&[], &good_body());
    connection.send(&request[..request.len() - 1]);
    connection.finish();
    let reply = connection.reply();
    assert!(reply.is_none_or(|reply| reply.status == 400));
    assert!(server.accepted().is_empty());
}

#[test]
fn an_idle_connection_is_reaped_but_not_by_the_timeout_for_heads() {
    let idle_timeout = SHORT * 5;
    let server =
        server_with(ReceiveLimits { header_timeout: SHORT, idle_timeout, ..ReceiveLimits::default() });
    let mut connection = Connection::open(server.addr);
    assert_eq!(connection.request("GET", "/health").status, 200);
    assert!(!connection.is_closed_within(SHORT * 2), "an idle connection may wait longer than a head");
    assert_eq!(connection.request("GET", "/health").status, 200);
    assert!(connection.is_closed());
    server.wait_for_metric("promantis_connections", 0.0);
}

#[test]
fn connections_over_the_cap_are_closed_as_they_come() {
    let server = server_with(ReceiveLimits { connections_max: 2, ..ReceiveLimits::default() });
    let mut first = Connection::open(server.addr);
    let mut second = Connection::open(server.addr);
    assert_eq!(first.request("GET", "/health").status, 200);
    assert_eq!(second.request("GET", "/health").status, 200);
    assert!(Connection::open(server.addr).is_closed());
    assert_eq!(server.metric("promantis_connections_refused_total{reason=\"connections_max\"}"), 1.0);
    drop(first);
    server.wait_for_metric("promantis_connections", 1.0);
    assert_eq!(Connection::open(server.addr).request("GET", "/health").status, 200);
}

#[test]
fn one_address_has_its_own_cap() {
    let server = server_with(ReceiveLimits { connections_per_ip_max: 1, ..ReceiveLimits::default() });
    let mut first = Connection::open(server.addr);
    assert_eq!(first.request("GET", "/health").status, 200);
    assert!(Connection::open(server.addr).is_closed());
    assert_eq!(server.metric("promantis_connections_refused_total{reason=\"connections_per_ip_max\"}"), 1.0);
}

#[test]
fn two_clients_at_once_are_each_served_in_order() {
    let server = TestServer::start();
    let send = |job: &str| {
        let mut connection = Connection::open(server.addr);
        for round in 0..50 {
            let series = client::v1_series(&[("__name__", "up"), ("job", job)], f64::from(round));
            assert_eq!(connection.post(&[], &client::v1_body(vec![series])).status, 204);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| send("one"));
        scope.spawn(|| send("two"));
    });
    let accepted = server.accepted();
    for job in ["one", "two"] {
        let of_job = accepted.iter().filter(|(labels, _)| *labels == format!("up{{job=\"{job}\"}}"));
        let values: Vec<_> = of_job.flat_map(|(_, samples)| samples).map(|sample| sample.value).collect();
        assert_eq!(values, (0..50).map(f64::from).collect::<Vec<_>>(), "{job}");
    }
    assert_eq!(server.metric("promantis_samples_received_total"), 100.0);
    assert_eq!(server.metric("promantis_requests_received_total{protocol=\"1.0\"}"), 100.0);
}

#[test]
fn good_clients_are_served_while_slow_ones_hold_connections() {
    let server = TestServer::start();
    let mut slow: Vec<_> = (0..32).map(|_| Connection::open(server.addr)).collect();
    for connection in &mut slow {
        connection.send(b"POST /api/v1/write HTTP/1.1\r\nHost: t\r\nContent-Length: 8000000\r\n\r\nabc");
    }
    let started = Instant::now();
    assert_eq!(client::post(server.addr, V1, &good_body()).status, 204);
    assert!(started.elapsed() < Duration::from_secs(2), "announced bytes take no memory from others");
}

#[test]
fn raw_nonsense_is_answered_400_or_closed_and_harms_nobody() {
    let server = TestServer::start();
    let check = |name: &str, bytes: &str, expected: u16| {
        let mut connection = Connection::open(server.addr);
        connection.send(bytes.as_bytes());
        connection.finish();
        let status = connection.reply().map(|reply| reply.status);
        assert!(status.is_none_or(|status| status == expected), "{name}: {status:?}");
    };
    check("HTTP/0.9", "GET /health\r\n", 400);
    check("garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400);
    check("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400);
    let get = "GET /health HTTP/1.1\r\n";
    check("many headers", &format!("{get}{}\r\n", "A: b\r\n".repeat(65)), 431);
    check("long header", &format!("{get}X: {}\r\n\r\n", "x".repeat(20_000)), 431);
    check("folded header", &format!("{get}Host: t\r\n folded\r\n\r\n"), 400);
    check("space before colon", &format!("{get}Host : t\r\n\r\n"), 400);
    check("NUL in header", &format!("{get}Host: t\0\r\n\r\n"), 400);
    let post = "POST /api/v1/write HTTP/1.1\r\n";
    check("two lengths", &format!("{post}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 400);
    check("signed length", &format!("{post}Content-Length: +1\r\n\r\na"), 400);
    check("endless length", &format!("{post}Content-Length: 99999999999999999999999\r\n\r\na"), 400);
    let chunked = "Transfer-Encoding: chunked";
    check("chunk without size", &format!("{post}{chunked}\r\n\r\nzz\r\n"), 400);
    check("chunk over 64 bits", &format!("{post}{chunked}\r\n\r\nfffffffffffffffff\r\n"), 400);
    check("not chunked last", &format!("{post}{chunked}, gzip\r\n\r\n0\r\n\r\n"), 400);
    check("HTTP/1.0 chunked", &format!("POST /api/v1/write HTTP/1.0\r\n{chunked}\r\n\r\n0\r\n\r\n"), 400);
    assert!(server.accepted().is_empty());
    assert_eq!(Connection::open(server.addr).request("GET", "/health").status, 200);
}

/// A proxy that goes by `Content-Length` and a server that goes by `Transfer-Encoding` would see different
/// requests on one connection, so the connection must end after the first.
#[test]
fn a_request_with_two_lengths_of_body_smuggles_no_second_request() {
    let server = TestServer::start();
    let mut connection = Connection::open(server.addr);
    connection.send(
        b"POST /api/v1/write HTTP/1.1\r\nHost: t\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n\
          0\r\n\r\nGET /health HTTP/1.1\r\nHost: t\r\n\r\n",
    );
    let first = connection.reply().expect("an answer");
    assert_eq!(first.status, 400, "{first:?}");
    assert!(connection.reply().is_none(), "the smuggled request was answered");
}
