//! The load: requests that are made before the clock starts, sent over keep-alive connections at a fixed rate.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::SERIES;
use crate::peer::Connection;
use crate::workload::{STEP_MS, bodies, label_runs};

/// The first sample, Unix milliseconds: long ago, so that none lies ahead.
const BEGIN_MS: i64 = 1_700_000_000_000;
/// How long to wait after a 503, as short as a sender may.
const PAUSE: Duration = Duration::from_millis(20);

/// Requests for each connection.
pub(crate) struct Load {
    requests: Vec<Vec<Vec<u8>>>,
    samples_per_request: usize,
}

/// What the senders saw.
#[derive(Default)]
pub(crate) struct Sent {
    /// How long each request took that was taken, from its first byte to the answer.
    pub(crate) answers: Vec<Duration>,
    /// Requests that were answered 503, and sent again.
    pub(crate) refused: usize,
}

impl Load {
    /// One sample of every series for each of `steps`.
    pub(crate) fn new(connections: usize, samples_per_request: usize, steps: Range<usize>) -> Self {
        let runs = label_runs(SERIES);
        let mut requests = vec![Vec::new(); connections];
        for step in steps.map(|step| step as i64) {
            let bodies = bodies(&runs, samples_per_request, step, BEGIN_MS + step * STEP_MS);
            for (index, body) in bodies.into_iter().enumerate() {
                requests[index % connections].push(body);
            }
        }
        Self { requests, samples_per_request }
    }

    pub(crate) fn samples(&self) -> usize {
        self.requests.iter().map(Vec::len).sum::<usize>() * self.samples_per_request
    }

    /// Sends all of it to `addr`, `rate` samples a second; one that is late sends at once.
    pub(crate) fn send(&self, addr: SocketAddr, rate: usize) -> anyhow::Result<Sent> {
        let each = Duration::from_secs_f64(self.samples_per_request as f64 / rate as f64);
        let begin = Instant::now();
        let connections = self.requests.len() as u32;
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0_u32..)
                .zip(&self.requests)
                .map(|(number, requests)| {
                    scope.spawn(move || send(addr, requests, begin + each * number, each * connections))
                })
                .collect();
            let mut all = Sent::default();
            for sender in senders {
                let sent = sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
                all.answers.extend(sent.answers);
                all.refused += sent.refused;
            }
            Ok(all)
        })
    }
}

/// Sends `requests` one after the other, the first at `due` and each further one `pace` later.
fn send(addr: SocketAddr, requests: &[Vec<u8>], mut due: Instant, pace: Duration) -> anyhow::Result<Sent> {
    let mut sent = Sent::default();
    let mut connection = Connection::open(addr)?;
    for request in requests {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due += pace;
        loop {
            let begin = Instant::now();
            match connection.post(request) {
                Ok(204) => {
                    sent.answers.push(begin.elapsed());
                    break;
                }
                // A server that refuses before it has read the body closes the connection.
                Ok(503) | Err(_) => {
                    sent.refused += 1;
                    std::thread::sleep(PAUSE);
                    connection = Connection::open(addr)?;
                }
                Ok(status) => anyhow::bail!("the server answered {status}"),
            }
        }
    }
    Ok(sent)
}
