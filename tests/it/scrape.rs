//! Scrape mode: the scraper against exporters good and bad, and the command as a user runs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use promantis::edge::journal::{Entry, Journal};
use promantis::edge::scrape::{BODY_BYTES_MAX, ScrapeFailed, Scraped, Scraper, Target, Unheard};
use promantis::edge::telemetry::Metrics;
use promantis::series::{LabelRun, Sample, is_stale_marker};
use promantis::wire::decode::Limits;
use promantis::wire::exposition::{self, Format};

use crate::support::peers::free_addr;

const NOW: i64 = 1_700_000_000_000;

/// An exporter whose answer to each request is what `answer` writes, given how many came before.
fn exporter(
    mut answer: impl FnMut(usize, &mut TcpStream) -> std::io::Result<()> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a connection");
            let head = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<_> = head.take_while(|line| !line.is_empty()).collect();
            assert!(head.iter().any(|line| line.starts_with("user-agent: promantis/")), "{head:?}");
            // The scraper may hang up when it has seen enough.
            let _ = answer(number, &mut stream);
        }
    });
    addr
}

fn page(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    respond(stream, "200 OK", "Content-Type: text/plain; version=0.0.4", body)
}

fn respond(stream: &mut TcpStream, status: &str, header: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{header}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// A scraper whose batches are read back from the journal.
struct Bench {
    scraper: Scraper,
    journal: Arc<Journal>,
    metrics: Arc<Metrics>,
    runtime: tokio::runtime::Runtime,
    now: i64,
}

impl Bench {
    fn new(addr: SocketAddr) -> Self {
        Self::with_journal(addr, 1 << 20)
    }

    fn with_journal(addr: SocketAddr, max_bytes: usize) -> Self {
        let metrics = Arc::new(Metrics::new());
        let journal = Journal::in_memory_waiting(max_bytes, (1 << 30, 1), Arc::clone(&metrics));
        let target =
            Target::new(&format!("http://{addr}"), "j", Duration::from_secs(10)).expect("an address");
        let scraper = Scraper::new(target, Arc::clone(&journal), Arc::clone(&metrics));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        Self { scraper, journal, metrics, runtime, now: NOW }
    }

    /// Scrapes, each time a second later.
    fn scrape(&mut self) -> Scraped {
        self.now += 1000;
        self.runtime.block_on(self.scraper.scrape(self.now))
    }

    /// The oldest batch that was not read yet, without durations: `NAME VALUE` or `NAME stale`.
    fn batch(&self) -> Vec<String> {
        let record = self.journal.read(0).expect("the journal is open");
        self.journal.done(0, record.sequence);
        let Entry::Request { batch } = &record.entry else { panic!("{record:?}") };
        let shown = batch.iter().map(|series| {
            let Sample { value, timestamp } = series.samples[0];
            assert_eq!((series.labels.get("job"), timestamp), (Some("j"), record.arrival));
            let value = if is_stale_marker(value) { "stale".to_owned() } else { value.to_string() };
            format!("{} {value}", series.labels.metric_name().unwrap_or_default())
        });
        shown.filter(|line| !line.starts_with("scrape_duration_seconds ")).collect()
    }

    fn outcomes(&self, outcome: &str) -> u64 {
        self.metrics.scrapes.get_or_create(&vec![("outcome", outcome.to_owned())]).get()
    }
}

/// The failure of one scrape of an exporter that answers so.
fn failure(
    answer: impl FnMut(usize, &mut TcpStream) -> std::io::Result<()> + Send + 'static,
) -> ScrapeFailed {
    let mut bench = Bench::new(exporter(answer));
    let failed = bench.scrape().failure.expect("the scrape fails");
    assert_eq!(bench.batch(), ["up 0", "scrape_samples_scraped 0"]);
    assert_eq!(bench.outcomes("failed"), 1);
    failed
}

#[test]
fn a_target_that_goes_down_ends_its_series_once() {
    let mut bench = Bench::new(exporter(|number, stream| match number {
        0 => page(stream, "a 1\nb 2\n"),
        _ => respond(stream, "500 Internal Server Error", "Retry-After: 1", "a 1\n"),
    }));
    assert!(bench.scrape().failure.is_none());
    assert_eq!(bench.batch(), ["up 1", "scrape_samples_scraped 2", "a 1", "b 2"]);
    assert_eq!(bench.scrape().ended, 2);
    let mut ended = bench.batch();
    ended.sort();
    assert_eq!(ended, ["a stale", "b stale", "scrape_samples_scraped 0", "up 0"]);
    assert_eq!(bench.scrape().ended, 0);
    assert_eq!(bench.batch(), ["up 0", "scrape_samples_scraped 0"]);
    assert_eq!((bench.outcomes("ok"), bench.outcomes("failed")), (1, 2));
}

#[test]
fn a_target_where_nobody_listens_is_down() {
    let mut bench = Bench::new(free_addr());
    assert!(matches!(bench.scrape().failure, Some(ScrapeFailed::Unheard(Unheard::Lost(_)))));
    assert_eq!(bench.batch(), ["up 0", "scrape_samples_scraped 0"]);
}

#[test]
fn a_page_of_nonsense_fails_and_a_page_with_some_is_taken_without_it() {
    let failed = failure(|_, stream| page(stream, "<html>\n<body>\u{0}</body>\n"));
    let said = "no line of the page is a sample; line 1: expected a metric name or `{`, found \"<html>\"";
    assert_eq!(failed.to_string(), said);

    let mut bench = Bench::new(exporter(|_, stream| page(stream, "a 1\nb one\nc 3\nc 4\n")));
    let scraped = bench.scrape();
    assert_eq!((scraped.samples, scraped.rejected.lines, scraped.repeated), (3, 1, 1));
    let said = "1 of the lines rejected; line 2: expected a value, found \"one\"";
    assert_eq!(scraped.trouble().as_deref(), Some(said));
    assert_eq!(bench.batch(), ["up 1", "scrape_samples_scraped 3", "a 1", "c 3"]);
    assert_eq!(bench.outcomes("partial"), 1);
}

#[test]
fn an_empty_page_is_a_page() {
    let mut bench = Bench::new(exporter(|_, stream| page(stream, "")));
    assert!(bench.scrape().failure.is_none());
    assert_eq!(bench.batch(), ["up 1", "scrape_samples_scraped 0"]);
}

#[test]
fn redirects_and_compressed_pages_are_refused() {
    let moved = failure(|_, stream| respond(stream, "302 Found", "Location: http://127.0.0.1:1/", ""));
    assert!(moved.to_string().starts_with("answered 302 Found"), "{moved}");
    let packed = failure(|_, stream| respond(stream, "200 OK", "Content-Encoding: gzip", "a 1\n"));
    assert!(matches!(packed, ScrapeFailed::Unheard(Unheard::Encoding(_))), "{packed}");
    let nothing = failure(|_, _| Ok(()));
    assert!(matches!(nothing, ScrapeFailed::Unheard(Unheard::Lost(_))), "{nothing}");
    let cut = failure(|_, stream| write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na 1\n"));
    assert!(matches!(cut, ScrapeFailed::Unheard(Unheard::Lost(_))), "{cut}");
}

#[test]
fn a_huge_page_is_refused_as_soon_as_it_is_known_to_be() {
    let too_large = |failed: &ScrapeFailed| matches!(failed, ScrapeFailed::Unheard(Unheard::TooLarge { .. }));
    let length = BODY_BYTES_MAX + 1;
    let announced =
        failure(move |_, stream| write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
    assert!(too_large(&announced), "{announced}");
    let endless = failure(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let lines = "a 1\n".repeat(1 << 18);
        loop {
            stream.write_all(lines.as_bytes())?;
        }
    });
    assert!(too_large(&endless), "{endless}");
}

#[test]
fn a_page_that_does_not_come_is_not_waited_for() {
    let addr = exporter(|_, stream| stream.read(&mut [0]).map(drop));
    let mut bench = Bench::new(addr);
    let target = Target::new(&format!("http://{addr}"), "j", Duration::from_millis(50)).expect("an address");
    bench.scraper = Scraper::new(target, Arc::clone(&bench.journal), Arc::clone(&bench.metrics));
    let failed = bench.scrape().failure.expect("the scrape fails");
    assert_eq!(failed.to_string(), "no whole page within 1s");
}

#[test]
fn a_full_journal_costs_one_scrape() {
    let mut bench = Bench::with_journal(exporter(|_, stream| page(stream, "a 1\n")), 1);
    assert!(bench.scrape().full.is_none(), "an empty journal takes whatever comes");
    assert!(bench.scrape().full.is_some());
    assert_eq!((bench.outcomes("ok"), bench.outcomes("journal_full")), (1, 1));
    bench.batch();
    assert!(bench.scrape().full.is_none());
    assert_eq!(bench.batch(), ["up 1", "scrape_samples_scraped 1", "a 1"]);
}

#[test]
fn our_own_metrics_are_understood_to_the_last_line() {
    let metrics = Metrics::new();
    metrics.judgement_seconds.observe(0.5);
    metrics.remote_write_up.get_or_create(&vec![("target", "a, \"b\" = {c}\\\n".to_owned())]).set(1);
    let text = metrics.render();
    let page = exposition::parse(text.as_bytes(), Format::OpenMetrics, &Limits::default(), NOW);
    assert_eq!(page.rejected.lines, 0, "{:?}", page.rejected);
    assert_eq!(page.samples.len(), text.lines().filter(|line| !line.starts_with('#')).count());
    let up = page.samples.iter().find(|it| it.name == "promantis_remote_write_up").expect("it was set");
    assert_eq!(up.labels, [("target".to_owned(), "a, \"b\" = {c}\\\n".to_owned())]);
}

fn promantis(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_promantis"));
    command.args(["--log", "warn", "scrape"]).args(arguments).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Noise between 9 and 11, and a fault in between that lasts from page 40 to 49.
fn latency(number: usize) -> f64 {
    if (40..50).contains(&number) { 500.0 } else { 9.0 + (number * 7 % 13) as f64 / 6.0 }
}

/// Scrapes an exporter with a fault, with a monitor that judges each sample alone, and returns what was told.
fn scrape_a_fault(more: &[&str]) -> Output {
    let addr = exporter(|number, stream| {
        let latency = latency(number);
        page(stream, &format!("# TYPE latency gauge\nlatency{{path=\"/a,b\"}} {latency}\nsteady 5\n"))
    });
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("promantis.yml");
    let monitor =
        "monitors: [{name: all, select: latency, warm_up: 20, window: {trigger: 0s, recovery: 0s}}]";
    std::fs::write(&config, monitor).expect("a file");
    let (url, config) = (format!("http://{addr}/metrics"), config.display().to_string());
    let arguments = [url.as_str(), "--interval", "15ms", "--count", "60", "--config", &config];
    promantis(&[&arguments[..], more].concat()).current_dir(folder.path()).output().expect("the command runs")
}

#[test]
fn a_fault_raises_a_flag_that_is_told_once_and_falls() {
    let output = scrape_a_fault(&["--job", "shop"]);
    let (told, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{told}\n{said}");
    let lines: Vec<_> = told.lines().collect();
    let [raised, fell] = lines.as_slice() else { panic!("{told}\n{said}") };
    assert!(raised.contains(" raised latency{instance=\"127.0.0.1:"), "{raised}");
    assert!(raised.contains(r#"job="shop", monitor="all", path="/a,b"} = 500, normal is "#), "{raised}");
    assert!(fell.contains(" fell latency{") && fell.contains(" s, peak score "), "{fell}");
    assert!(said.contains("scrapes: 60, failed: 0; flags raised: 1, open: 0; samples: 2"), "{said}");
    assert!(said.contains("flags can rise after 20 samples, 300ms"), "{said}");
}

#[test]
fn flags_are_told_as_json() {
    let output = scrape_a_fault(&["--json"]);
    let told = text(&output.stdout);
    let lines: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect();
    let [raised, fell] = lines.as_slice() else { panic!("{told}\n{}", text(&output.stderr)) };
    assert_eq!((&raised["event"], &fell["event"]), (&"raised".into(), &"fell".into()));
    assert_eq!((&raised["value"], &raised["labels"]["metric_name"]), (&500.0.into(), &"latency".into()));
    assert_eq!(raised["since"], fell["since"]);
    assert!(fell["until"].as_i64() > fell["since"].as_i64(), "{fell}");
}

#[test]
fn a_target_that_is_always_down_is_a_failure() {
    let url = format!("http://{}", free_addr());
    let output = promantis(&[&url, "--interval", "20ms", "--count", "3"]).output().expect("the command runs");
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("scrapes: 3, failed: 3") && said.contains("every scrape failed"), "{said}");
    assert_eq!(said.matches("WARN").count(), 1, "a lasting failure is logged once: {said}");
}

#[test]
fn what_cannot_be_scraped_is_wrong_usage() {
    let check = |arguments: &[&str], fragment: &str| {
        let output = promantis(arguments).output().expect("the command runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(fragment), "{arguments:?}: {said}");
    };
    check(&["https://localhost/metrics"], "TLS is not available");
    check(&["localhost:9100"], "no http:// address");
    check(&["http://localhost", "--interval", "soon"], "`soon` is no duration");
    check(&["http://localhost", "--interval", "0s"], "interval: 0ns is below 10ms");
    check(&["http://localhost", "--count", "0"], "--count");
    check(&["http://localhost", "--job", ""], "job: a name has 1 to 256 bytes, not 0");
    check(&["http://localhost", "--config", "/nonexistent.yml"], "/nonexistent.yml");
}

#[test]
fn it_ends_when_it_is_asked_to() {
    let addr = exporter(|_, stream| page(stream, "a 1\n"));
    let mut child = promantis(&[&format!("http://{addr}"), "--interval", "20ms"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let first = lines.find(|line| line.starts_with("scrapes: 1, failed: 0"));
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert!(first.is_some() && kill.success());
    let last = lines.last().expect("it says what it did");
    assert!(child.wait().expect("it ends").success(), "{last}");
    assert!(last.ends_with("; flags raised: 0, open: 0; samples: 1"), "{last}");
}

/// What is exposed of one series is judged as that series: `job` and `instance` are those of the target.
#[test]
fn instance_is_host_and_port_of_the_address() {
    let addr = exporter(|_, stream| page(stream, "a{instance=\"other\"} 1\n"));
    let mut bench = Bench::new(addr);
    bench.scrape();
    let record = bench.journal.read(0).expect("the journal is open");
    let Entry::Request { batch } = &record.entry else { panic!("{record:?}") };
    let labels: LabelRun<'_> = batch.iter().last().expect("there is a series").labels;
    assert_eq!(labels.get("instance"), Some(addr.to_string().as_str()));
    assert_eq!(labels.get("exported_instance"), Some("other"));
}
