//! The remote end that derived samples are sent to: takes all of them and remembers them.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use promantis::series::Sample;
use promantis::wire::decode::{Limits, Protocol, decode};
use promantis::wire::snappy;

use super::client::Connection;

const BODY_MAX: usize = 64 << 20;

/// A running remote end; it ends with the process.
pub(crate) struct RemoteEnd {
    addr: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
}

/// A sample that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    /// As PromQL writes it.
    pub(crate) series: String,
    pub(crate) sample: Sample,
}

impl RemoteEnd {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let taken = Arc::default();
        let shared = Arc::clone(&taken);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let taken = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &taken));
            }
        });
        Self { addr, taken }
    }

    /// The entry of a configuration that names it; `more` keys follow.
    pub(crate) fn target(&self, more: &str) -> String {
        format!("remote_write: [{{url: \"http://{}/api/v1/write\"{more}}}]\n", self.addr)
    }

    /// How many samples were taken of series whose text has `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.lock().iter().filter(|taken| taken.series.contains(part)).count()
    }

    /// Everything that was taken so far.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(stream: TcpStream, taken: &Mutex<Vec<Taken>>) {
    let Ok(mut answers) = stream.try_clone() else { return };
    let mut connection = Connection::over(stream);
    while let Some((_, body)) = connection.message() {
        let raw = snappy::decompress(&body, BODY_MAX).expect("requests are snappy");
        let decoded = decode(Protocol::V1, raw, &Limits::default(), i64::MAX).expect("requests are protobuf");
        let mut samples = Vec::new();
        for series in decoded.batch.iter() {
            let text = series.labels.to_string();
            samples.extend(series.samples.iter().map(|&sample| Taken { series: text.clone(), sample }));
        }
        taken.lock().unwrap_or_else(PoisonError::into_inner).append(&mut samples);
        if answers.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
            return;
        }
    }
}
