//! Just enough HTTP/1.1 to send requests, and to take them as a target that reads and counts and says 204.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::wire::decode::Protocol;

/// How long a server may keep silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A keep-alive connection.
pub(super) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(super) fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Posts a remote-write request and returns status and text of the answer.
    pub(super) fn post(&mut self, protocol: Protocol, body: &[u8]) -> io::Result<(u16, String)> {
        let (media_type, version) = match protocol {
            Protocol::V1 => ("application/x-protobuf", "0.1.0"),
            Protocol::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
        };
        let head = format!(
            "POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Encoding: snappy\r\n\
             X-Prometheus-Remote-Write-Version: {version}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        self.answer()
    }

    /// Asks for a page, and ends the connection: by HTTP/1.0, so that it does not come in chunks.
    pub(super) fn get(&mut self, path: &str) -> io::Result<(u16, String)> {
        write!(self.0.get_mut(), "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<(u16, String)> {
        let head = read_head(&mut self.0)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let mut body = Vec::new();
        match content_length(&head) {
            Some(length) => self.0.by_ref().take(length).read_to_end(&mut body)?,
            None if status == 204 => 0,
            // Its end is the end of the connection.
            None => self.0.read_to_end(&mut body)?,
        };
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// Reads up to the empty line. The head is in lower case.
fn read_head(from: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    head.make_ascii_lowercase();
    Ok(head)
}

fn content_length(head: &str) -> Option<u64> {
    head.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().ok()
}

/// A target that takes everything, on threads of this process; it ends with the process.
pub(super) struct Sink {
    pub(super) addr: SocketAddr,
    taken: Arc<Taken>,
}

#[derive(Default)]
struct Taken {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Sink {
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let taken = Arc::new(Taken::default());
        let sink = Self { addr, taken: Arc::clone(&taken) };
        thread::Builder::new().name("sink".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let taken = Arc::clone(&taken);
                // A server that went away needs no answer.
                thread::spawn(move || drop(take_all(stream, &taken)));
            }
        })?;
        Ok(sink)
    }

    /// Requests, and bytes of their bodies, that were taken so far.
    pub(super) fn taken(&self) -> (u64, u64) {
        (self.taken.requests.load(Ordering::Relaxed), self.taken.bytes.load(Ordering::Relaxed))
    }
}

fn take_all(stream: TcpStream, taken: &Taken) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut body = Vec::new();
    loop {
        let head = read_head(&mut stream)?;
        body.clear();
        let length = content_length(&head).ok_or(io::ErrorKind::InvalidData)?;
        stream.by_ref().take(length).read_to_end(&mut body)?;
        taken.requests.fetch_add(1, Ordering::Relaxed);
        taken.bytes.fetch_add(length, Ordering::Relaxed);
        stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
}

/// An address that was free a moment ago.
pub(super) fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sink_takes_whatever_comes_and_counts_it() {
        let sink = Sink::start().unwrap();
        let mut connection = Connection::open(sink.addr).unwrap();
        for (protocol, body) in [(Protocol::V1, &b"one"[..]), (Protocol::V2, b""), (Protocol::V1, b"three")] {
            assert_eq!(connection.post(protocol, body).unwrap().0, 204);
        }
        assert_eq!(sink.taken(), (3, 8));
    }
}
