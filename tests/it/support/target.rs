//! A remote-write target that counts what it takes, and takes its time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use promantis::wire::prompb::v1::WriteRequest;
use prost::Message;

/// A running target; it ends with the test's process.
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    taken: Arc<Mutex<Vec<WriteRequest>>>,
}

impl Target {
    /// Answers each request `delay` after it has come.
    pub(crate) fn start(delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
        let addr = listener.local_addr().expect("it listens");
        let taken = Arc::default();
        let shared = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let taken = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, delay, &taken));
            }
        });
        Self { addr, taken }
    }

    /// Every sample it took: the values of each label of the series, joined, with its timestamp.
    pub(crate) fn samples(&self) -> Vec<(String, i64)> {
        let requests = self.taken.lock().expect("nobody panics over it");
        let series = requests.iter().flat_map(|request| &request.timeseries);
        let samples = series.flat_map(|series| {
            let values = series.labels.iter().map(|label| String::from_utf8_lossy(&label.value));
            let name = values.collect::<Vec<_>>().join(" ");
            series.samples.iter().map(move |sample| (name.clone(), sample.timestamp))
        });
        samples.collect()
    }
}

fn serve(stream: TcpStream, delay: Duration, taken: &Mutex<Vec<WriteRequest>>) {
    let mut reader = BufReader::new(stream);
    while let Some(body) = read(&mut reader) {
        let raw = snap::raw::Decoder::new().decompress_vec(&body).expect("the sender compresses");
        let request = WriteRequest::decode(raw.as_slice()).expect("the sender writes protobuf");
        std::thread::park_timeout(delay);
        taken.lock().expect("nobody panics over it").push(request);
        if reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
            return;
        }
    }
}

/// The body of the next request; `None` at the end of the connection.
fn read(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?
            }
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}
