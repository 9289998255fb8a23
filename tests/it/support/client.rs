//! A client that sends exactly the bytes it is told to, and remote-write bodies to send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use promantis::wire::prompb::{v1, v2};
use prost::Message;

/// An answer that does not come for so long fails the test.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const V1: &str = "application/x-protobuf";
pub(crate) const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The three `*-Written` headers: samples, histograms, exemplars.
    pub(crate) fn written(&self) -> [Option<u64>; 3] {
        ["Samples", "Histograms", "Exemplars"].map(|kind| {
            let name = format!("X-Prometheus-Remote-Write-{kind}-Written");
            self.header(&name).map(|value| value.parse().expect("a count"))
        })
    }
}

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes as they are. A peer that has closed is noticed when its answer is read.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&self) {
        // The peer may have closed already.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// The next answer, or `None` when the server closed without one.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let head_end = self.fill_until(|buffer| find(buffer, b"\r\n\r\n"))?;
        let head = String::from_utf8(self.buffer.drain(..head_end + 4).collect()).expect("an ASCII head");
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut reply = Reply { status, headers, body: String::new() };
        let length = reply.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        self.fill_until(|buffer| (buffer.len() >= length).then_some(()))?;
        reply.body = String::from_utf8(self.buffer.drain(..length).collect()).expect("text");
        Some(reply)
    }

    /// Whether the server ends the connection, rather than sending more or letting `patience` pass.
    pub(crate) fn is_closed_within(&mut self, patience: Duration) -> bool {
        self.stream.set_read_timeout(Some(patience)).expect("a timeout can be set");
        let read = self.stream.read(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        match read {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    /// Whether the server ends the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.is_closed_within(PATIENCE)
    }

    fn fill_until<T>(&mut self, found: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = found(&self.buffer) {
                return Some(found);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
            }
        }
    }

    pub(crate) fn post(&mut self, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.send(&post_bytes(headers, body));
        self.reply().expect("an answer")
    }

    pub(crate) fn request(&mut self, method: &str, path: &str) -> Reply {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n").as_bytes());
        self.reply().expect("an answer")
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A whole `POST /api/v1/write`.
pub(crate) fn post_bytes(headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("POST /api/v1/write HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        bytes += &format!("{name}: {value}\r\n");
    }
    bytes += "\r\n";
    [bytes.as_bytes(), body].concat()
}

/// Posts `body` on a fresh connection with the usual headers.
pub(crate) fn post(addr: SocketAddr, content_type: &str, body: &[u8]) -> Reply {
    let headers = [("Content-Type", content_type), ("Content-Encoding", "snappy")];
    Connection::open(addr).post(&headers, body)
}

pub(crate) fn snappy(raw: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(raw).expect("a short request")
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is past 1970").as_millis() as i64
}

/// A body of remote write 1.0.
pub(crate) fn v1_body(series: Vec<v1::TimeSeries>) -> Vec<u8> {
    snappy(&v1::WriteRequest { timeseries: series, metadata: Vec::new() }.encode_to_vec())
}

/// A series of remote write 1.0 with one sample of now.
pub(crate) fn v1_series(labels: &[(&str, &str)], value: f64) -> v1::TimeSeries {
    let labels =
        labels.iter().map(|(name, value)| v1::Label { name: (*name).into(), value: (*value).into() });
    v1::TimeSeries {
        labels: labels.collect(),
        samples: vec![v1::Sample { value, timestamp: now_ms() }],
        ..v1::TimeSeries::default()
    }
}

/// Builds requests of remote write 2.0.
pub(crate) struct V2Body {
    pub(crate) request: v2::Request,
}

impl V2Body {
    pub(crate) fn new() -> Self {
        Self { request: v2::Request { symbols: vec![Vec::new()], timeseries: Vec::new() } }
    }

    /// The reference of `text`, added to the symbols if need be.
    pub(crate) fn symbol(&mut self, text: &str) -> u32 {
        let symbols = &mut self.request.symbols;
        let known = symbols.iter().position(|symbol| symbol == text.as_bytes());
        known.unwrap_or_else(|| {
            symbols.push(text.into());
            symbols.len() - 1
        }) as u32
    }

    pub(crate) fn refs(&mut self, labels: &[(&str, &str)]) -> Vec<u32> {
        labels.iter().flat_map(|(name, value)| [self.symbol(name), self.symbol(value)]).collect()
    }

    /// Adds an empty series and gives it to be filled.
    pub(crate) fn series(&mut self, labels: &[(&str, &str)]) -> &mut v2::TimeSeries {
        let labels_refs = self.refs(labels);
        self.request.timeseries.push(v2::TimeSeries { labels_refs, ..v2::TimeSeries::default() });
        self.request.timeseries.last_mut().expect("one was pushed")
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        snappy(&self.request.encode_to_vec())
    }
}

/// A sample of remote write 2.0, of now.
pub(crate) fn v2_sample(value: f64) -> v2::Sample {
    v2::Sample { value, timestamp: now_ms(), start_timestamp: 0 }
}
