//! Just enough HTTP to send requests and to take them, and what the system says of processes and disks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use anyhow::Context;

/// In which unit Linux tells CPU times (`USER_HZ`, man page proc_pid_stat).
const TICKS_PER_SECOND: f64 = 100.0;

/// A keep-alive connection.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Posts a remote-write request and returns the status of the answer.
    pub(crate) fn post(&mut self, body: &[u8]) -> io::Result<u16> {
        let head = format!(
            "POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        self.answer().map(|(status, _)| status)
    }

    /// Asks for a page.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<(u16, String)> {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let (status, body) = self.answer()?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let head = read_head(&mut self.0)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = read_body(&mut self.0, &head)?;
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, body))
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

fn read_body(from: &mut impl Read, head: &str) -> io::Result<Vec<u8>> {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or_default()];
    from.read_exact(&mut body)?;
    Ok(body)
}

/// Starts a target that takes everything.
pub(crate) fn sink() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A server that went away needs no answer.
            thread::spawn(move || drop(take_all(stream)));
        }
    });
    Ok(addr)
}

fn take_all(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let head = read_head(&mut stream)?;
        read_body(&mut stream, &head)?;
        stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
}

/// An address that was free a moment ago.
pub(crate) fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// CPU seconds, of user and system, that a process has used.
pub(crate) fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field may have anything in it, up to the last parenthesis.
    let fields = stat.rsplit_once(") ").context("stat of a process")?.1;
    let ticks: Vec<f64> = fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// The device and the type of the file system that has `path`.
pub(crate) fn file_system(path: &Path) -> anyhow::Result<String> {
    let path = path.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let holder = fields.filter(|fields| fields.len() > 2 && path.starts_with(fields[1]));
    let holder = holder.max_by_key(|fields| fields[1].len()).context("no file system")?;
    Ok(format!("{} of {}", holder[2], holder[0]))
}
