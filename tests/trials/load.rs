//! The load of a trial: senders that repeat each request until it is acknowledged, as Prometheus does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use promantis::wire::prompb::v1::{Label, Sample, TimeSeries, WriteRequest};
use prost::Message;

use super::ledger::Ledger;
use super::support::pass;

/// Senders, each with a connection and series of its own.
pub(crate) const SENDERS: usize = 4;
/// Series of one sender; each has one sample in each of its requests.
pub(crate) const SERIES: usize = 64;
/// The hard limit that the load is judged by.
pub(crate) const UPPER: f64 = 5.0;
/// A sender waits so long after each request.
const PACE: Duration = Duration::from_millis(10);
/// A sender waits so long before it repeats what was not acknowledged.
const PAUSE: Duration = Duration::from_millis(2);
/// An answer that does not come for so long fails the trial.
const PATIENCE: Duration = Duration::from_secs(20);

/// The senders at work.
#[derive(Debug)]
pub(crate) struct Load {
    orders: Arc<Orders>,
    senders: Vec<JoinHandle<()>>,
}

#[derive(Default, Debug)]
struct Orders {
    /// The request that is being sent is the last.
    finish: AtomicBool,
    /// The trial has failed: not even that one matters.
    abandon: AtomicBool,
}

impl Load {
    /// Starts all senders. Request `n` of each is stamped `base` + `n`, Unix milliseconds.
    pub(crate) fn start(addr: SocketAddr, base: i64, ledger: &Arc<Mutex<Ledger>>) -> Self {
        let orders = Arc::new(Orders::default());
        let start = |number| {
            let mut sender = Sender { number, addr, ledger: Arc::clone(ledger), connection: None };
            let orders = Arc::clone(&orders);
            thread::spawn(move || sender.run(base, &orders))
        };
        let senders = (0..SENDERS).map(start).collect();
        Self { orders, senders }
    }

    /// Lets each sender have its last request acknowledged, and ends it.
    pub(crate) fn finish(&mut self) {
        self.orders.finish.store(true, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            sender.join().expect("a sender was answered what it did not expect");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.orders.abandon.store(true, Ordering::Relaxed);
    }
}

/// The value of a series in a request: one in ten is above the limit.
fn value(series: usize, request: usize) -> f64 {
    if (series + request).is_multiple_of(10) { 2.0 * UPPER } else { 1.0 }
}

/// The score that it deserves.
pub(crate) fn score(series: usize, request: usize) -> f64 {
    if value(series, request) > UPPER { 2.0 } else { 0.0 }
}

struct Sender {
    number: usize,
    addr: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
    connection: Option<BufReader<TcpStream>>,
}

impl Sender {
    fn run(&mut self, base: i64, orders: &Orders) {
        for request in 0.. {
            let bytes = self.bytes(base, request);
            self.note(Ledger::sent);
            while !self.is_acknowledged(&bytes) {
                // A process that is not there, or has no room, is asked again.
                pass(PAUSE);
                if orders.abandon.load(Ordering::Relaxed) {
                    return;
                }
            }
            self.note(Ledger::acknowledged);
            if orders.finish.load(Ordering::Relaxed) || orders.abandon.load(Ordering::Relaxed) {
                return;
            }
            pass(PACE);
        }
    }

    fn note(&self, what: fn(&mut Ledger, usize)) {
        what(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner), self.number);
    }

    fn is_acknowledged(&mut self, bytes: &[u8]) -> bool {
        match self.exchange(bytes) {
            Ok(204) => true,
            Ok(503) => false,
            Ok(status) => panic!("sender {} was answered {status}", self.number),
            Err(_) => {
                self.connection = None;
                false
            }
        }
    }

    /// Sends a request and reads the status of its answer.
    fn exchange(&mut self, bytes: &[u8]) -> io::Result<u16> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(connect(self.addr)?),
        };
        connection.get_mut().write_all(bytes)?;
        read_answer(connection)
    }

    /// A whole request, head and body.
    fn bytes(&self, base: i64, request: usize) -> Vec<u8> {
        let timestamp = base + i64::try_from(request).expect("far fewer requests");
        let series = (0..SERIES).map(|series| TimeSeries {
            labels: labels(self.number, series),
            samples: vec![Sample { value: value(series, request), timestamp }],
            ..TimeSeries::default()
        });
        let raw = WriteRequest { timeseries: series.collect(), ..WriteRequest::default() }.encode_to_vec();
        let body = snap::raw::Encoder::new().compress_vec(&raw).expect("it is small");
        let head = format!(
            "POST /api/v1/write HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nContent-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        );
        [head.into_bytes(), body].concat()
    }
}

fn labels(sender: usize, series: usize) -> Vec<Label> {
    let values =
        [("__name__", "load".to_owned()), ("sender", sender.to_string()), ("series", series.to_string())];
    values.map(|(name, value)| Label { name: name.into(), value: value.into() }).into()
}

fn connect(addr: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn read_answer(connection: &mut BufReader<TcpStream>) -> io::Result<u16> {
    let head = read_head(connection)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut body = vec![0; content_length(&head)];
    connection.read_exact(&mut body)?;
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Reads up to the empty line. The head is in lower case.
pub(crate) fn read_head(connection: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    head.make_ascii_lowercase();
    Ok(head)
}

/// Bytes that follow a head; 0 where it does not say.
pub(crate) fn content_length(head: &str) -> usize {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.parse().ok()).unwrap_or_default()
}
