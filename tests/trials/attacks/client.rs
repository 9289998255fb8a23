//! A blocking client that keeps its connection, and bodies for it to post.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use promantis::wire::prompb::v1::{Label, Sample, TimeSeries, WriteRequest};
use prost::Message;

/// An answer that does not come for so long is none.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const V1: &str = "application/x-protobuf";
pub(crate) const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(addr: SocketAddr) -> Self {
        Self::try_open(addr).expect("it listens")
    }

    pub(crate) fn try_open(addr: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(addr).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(Self::over(stream))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the peer reads");
    }

    /// The next answer; `None` where the peer closed instead.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let (head, body) = self.message()?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Reply { status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// The next message: its head in lower case, and its body.
    pub(crate) fn message(&mut self) -> Option<(String, Vec<u8>)> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            self.fill()?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        let length: Option<usize> =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        self.buffer.drain(..end + 4);
        match length {
            Some(length) => self.fill_to(length)?,
            // Who answers in 1.0 without a length says by closing where it ends.
            None if head.starts_with("http/1.0") => while self.fill().is_some() {},
            None => return Some((head, Vec::new())),
        }
        let length = length.unwrap_or(self.buffer.len());
        Some((head, self.buffer.drain(..length).collect()))
    }

    fn fill_to(&mut self, length: usize) -> Option<()> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Some(())
    }

    fn fill(&mut self) -> Option<()> {
        let mut chunk = [0; 16 << 10];
        let count = self.stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Some(())
    }

    /// Posts what [`post`] made.
    pub(crate) fn post(&mut self, request: &[u8]) -> Reply {
        self.send(request);
        self.reply().expect("an answer")
    }

    /// Asks for a page, as the last thing on this connection.
    pub(crate) fn get(mut self, path: &str) -> Option<Reply> {
        self.send(format!("GET {path} HTTP/1.0\r\nHost: it\r\n\r\n").as_bytes());
        self.reply()
    }
}

/// A whole `POST /api/v1/write` of a compressed body.
pub(crate) fn post(content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: it\r\nContent-Type: {content_type}\r\nContent-Encoding: snappy\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

pub(crate) fn snappy(raw: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(raw).expect("a short request")
}

/// A request of remote write 1.0 with the given series.
pub(crate) fn v1(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    post(V1, &snappy(&WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec()))
}

/// A series with one sample.
pub(crate) fn series(labels: &[(&str, &str)], value: f64, timestamp: i64) -> TimeSeries {
    let labels = labels.iter().map(|(name, value)| Label { name: (*name).into(), value: (*value).into() });
    TimeSeries {
        labels: labels.collect(),
        samples: vec![Sample { value, timestamp }],
        ..TimeSeries::default()
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    promantis::edge::clock::unix_ms()
}
