//! A target with moods, which enters everything that it takes or refuses in the ledger.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use promantis::wire::prompb::v1::{TimeSeries, WriteRequest};
use prost::Message;

use super::ledger::{Ledger, Mark};
use super::load::{content_length, read_head};
use super::random::{Random, mixed};
use super::support::pass;

/// One derived sample in so many is refused by a choosy target.
const CHOICE: u64 = 512;

/// How the target treats what is posted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    /// Takes everything at once.
    Up,
    /// Nobody listens.
    Away,
    /// Takes everything, and answers after 50 to 300 ms.
    Slow,
    /// Answers everything with this status and takes nothing.
    Failing(u16),
    /// Answers every second request 503.
    Flaky,
    /// Answers 400 to every request with a sample that it never takes.
    Choosy,
}

impl Mood {
    pub(crate) fn drawn(random: &mut Random) -> Self {
        match random.below(10) {
            0..=3 => Self::Up,
            4 => Self::Away,
            5 => Self::Slow,
            6 => Self::Failing(500),
            7 => Self::Failing(503),
            8 => Self::Flaky,
            _ => Self::Choosy,
        }
    }
}

/// The target. It ends when dropped.
pub(crate) struct Sink {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    ledger: Arc<Mutex<Ledger>>,
    /// Stamped on what was derived from the first requests.
    base: i64,
    mood: Mutex<(Mood, Random)>,
    away: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Sink {
    /// Listens on `addr`, in the best of moods.
    pub(crate) fn start(addr: SocketAddr, base: i64, ledger: &Arc<Mutex<Ledger>>, random: Random) -> Self {
        let shared = Arc::new(Shared {
            ledger: Arc::clone(ledger),
            base,
            mood: Mutex::new((Mood::Up, random)),
            away: AtomicBool::new(true),
            streams: Mutex::default(),
        });
        let mut sink = Self { addr, shared, accepting: None };
        sink.turn(Mood::Up);
        sink
    }

    /// Changes its mood.
    pub(crate) fn turn(&mut self, mood: Mood) {
        lock(&self.shared.mood).0 = mood;
        match (mood, &self.accepting) {
            (Mood::Away, Some(_)) => self.leave(),
            (Mood::Away, None) | (_, Some(_)) => (),
            (_, None) => self.listen(),
        }
    }

    /// The derived samples of a request, as they are entered in the ledger.
    pub(crate) fn read(&self, body: &[u8]) -> Result<Vec<(Mark, f64)>, String> {
        self.shared.read(body)
    }

    fn listen(&mut self) {
        let listener = TcpListener::bind(self.addr).expect("nobody else listens there");
        self.shared.away.store(false, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        self.accepting = Some(thread::spawn(move || shared.accept(&listener)));
    }

    fn leave(&mut self) {
        self.shared.away.store(true, Ordering::Relaxed);
        // Wakes who accepts, so that it sees that it is time to go.
        let _ = TcpStream::connect(self.addr);
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("accepting does not panic");
        }
        for stream in lock(&self.shared.streams).drain(..) {
            // The other end may have closed it.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.turn(Mood::Away);
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            if self.away.load(Ordering::Relaxed) {
                return;
            }
            lock(&self.streams).extend(stream.try_clone());
            let shared = Arc::clone(self);
            // A connection that was cut ends with an error.
            thread::spawn(move || drop(shared.serve(stream)));
        }
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut connection = BufReader::new(stream);
        loop {
            let head = read_head(&mut connection)?;
            let mut body = vec![0; content_length(&head)];
            connection.read_exact(&mut body)?;
            let status = self.judge(&body);
            let answer = if status == 204 { "" } else { "content-length: 0\r\n" };
            write!(connection.get_mut(), "HTTP/1.1 {status} -\r\n{answer}\r\n")?;
        }
    }

    /// The status that a request deserves in this mood.
    fn judge(&self, body: &[u8]) -> u16 {
        let samples = match self.read(body) {
            Ok(samples) => samples,
            Err(problem) => {
                lock(&self.ledger).problem(problem);
                return 400;
            }
        };
        let (mood, chance, delay) = {
            let (mood, random) = &mut *lock(&self.mood);
            (*mood, random.below(2) == 0, random.millis(50, 300))
        };
        match mood {
            Mood::Failing(status) => return status,
            // Half of what a cut connection carried had not been read.
            Mood::Flaky | Mood::Away if chance => return 503,
            Mood::Choosy if samples.iter().any(|&(mark, _)| is_disliked(mark)) => {
                self.refuse(&samples);
                return 400;
            }
            Mood::Slow if chance => {
                self.take(&samples);
                pass(delay);
            }
            Mood::Slow => {
                pass(delay);
                self.take(&samples);
            }
            Mood::Up | Mood::Away | Mood::Flaky | Mood::Choosy => self.take(&samples),
        }
        204
    }

    fn take(&self, samples: &[(Mark, f64)]) {
        let mut ledger = lock(&self.ledger);
        samples.iter().for_each(|&(mark, value)| ledger.taken(mark, value));
    }

    /// Among others, it is not yet clear whose fault it was.
    fn refuse(&self, samples: &[(Mark, f64)]) {
        if let [(mark, _)] = samples {
            lock(&self.ledger).refused(*mark);
        }
    }

    fn read(&self, body: &[u8]) -> Result<Vec<(Mark, f64)>, String> {
        let raw = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| error.to_string())?;
        let request = WriteRequest::decode(raw.as_slice()).map_err(|error| error.to_string())?;
        let mut samples = Vec::new();
        for series in &request.timeseries {
            for sample in &series.samples {
                let request = usize::try_from(sample.timestamp - self.base).ok();
                let mark = request.and_then(|request| mark(series, request));
                samples.push((mark.ok_or_else(|| format!("{series:?} came"))?, sample.value));
            }
        }
        Ok(samples)
    }
}

fn mark(series: &TimeSeries, request: usize) -> Option<Mark> {
    let label = |name: &str| {
        let label = series.labels.iter().find(|label| label.name == name.as_bytes())?;
        std::str::from_utf8(&label.value).ok()
    };
    Mark::new(label("__name__")?, label("sender")?.parse().ok()?, label("series")?.parse().ok()?, request)
}

/// Whether a choosy target never takes it.
fn is_disliked(mark: Mark) -> bool {
    mixed(mark.hash()).is_multiple_of(CHOICE)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
