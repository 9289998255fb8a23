//! An exporter whose metrics a test can spoil: a load with noise, and a disk that can be made to fill.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Bytes free on the disk at first.
const DISK_FREE: i64 = 10 << 30;

/// A running exporter; it ends with the test's process.
pub(crate) struct Exporter {
    pub(crate) addr: SocketAddr,
    levers: Arc<Levers>,
}

#[derive(Default)]
struct Levers {
    scrapes: AtomicU64,
    load_added: AtomicI64,
    disk_used: AtomicI64,
    disk_use_per_scrape: AtomicI64,
}

impl Exporter {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
        let addr = listener.local_addr().expect("it listens");
        let levers = Arc::new(Levers::default());
        let shared = Arc::clone(&levers);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let levers = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &levers));
            }
        });
        Self { addr, levers }
    }

    /// Adds to the load from now on; 0 is health.
    pub(crate) fn add_load(&self, amount: i64) {
        self.levers.load_added.store(amount, Ordering::Relaxed);
    }

    /// Fills the disk by so many bytes with each scrape from now on.
    pub(crate) fn fill_disk(&self, bytes: i64) {
        self.levers.disk_use_per_scrape.store(bytes, Ordering::Relaxed);
    }

    /// What the disk has left, bytes.
    pub(crate) fn disk_free(&self) -> i64 {
        DISK_FREE - self.levers.disk_used.load(Ordering::Relaxed)
    }
}

/// Answers every request of one connection, whatever it asks for, with the metrics of now.
fn serve(mut stream: TcpStream, levers: &Levers) {
    // A connection that says nothing for so long has been left behind.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let mut buffer = [0; 4096];
    while let Ok(1..) = stream.read(&mut buffer) {
        let page = levers.scrape();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length";
        if write!(stream, "{head}: {}\r\n\r\n{page}", page.len()).is_err() {
            return;
        }
    }
}

impl Levers {
    fn scrape(&self) -> String {
        let scrape = self.scrapes.fetch_add(1, Ordering::Relaxed);
        let per_scrape = self.disk_use_per_scrape.load(Ordering::Relaxed);
        let free = DISK_FREE - self.disk_used.fetch_add(per_scrape, Ordering::Relaxed) - per_scrape;
        let load = 100.0 + 0.1 * noise(scrape) + self.load_added.load(Ordering::Relaxed) as f64;
        let free = free as f64 + 1000.0 * noise(scrape + 7);
        format!(
            "# TYPE app_load gauge\napp_load {load}\n# TYPE app_disk_free_bytes gauge\napp_disk_free_bytes {free}\n"
        )
    }
}

/// From −50 to 50, mostly near 0, always the same for the same `n`.
fn noise(n: u64) -> f64 {
    let part = |factor: u64| (n.wrapping_mul(factor) % 51) as f64 - 25.0;
    part(7919) + part(104_729)
}
