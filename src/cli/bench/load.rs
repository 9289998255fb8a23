//! The load: requests over keep-alive connections, each with series of its own, as fast as they are taken or at a rate.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::super::workload::{STEP_MS, Shape, Template};
use super::http::Connection;
use super::interrupt::Interrupt;
use crate::edge::clock::unix_ms;
use crate::wire::decode::Protocol;

/// How far back the samples begin. No server is to be sent what lies ahead, or what it keeps no longer: some keep a
/// month.
const PAST_MS: i64 = 25 * 24 * 3_600_000;
/// How long to wait after a 503, as short as a sender may.
const PAUSE: Duration = Duration::from_millis(20);
/// How often a connection may break before a request is taken.
const BREAKS_MAX: u32 = 50;
/// Bytes of requests at most that are made before the clock starts.
const READY_BYTES_MAX: usize = 1 << 30;

/// Requests for each connection, step after step.
pub(super) struct Load {
    lanes: Vec<Lane>,
    series: usize,
}

/// What one connection sends: all requests of its series, one sample each, again and again.
struct Lane {
    templates: Vec<Template>,
    protocol: Protocol,
    /// When the first step is, Unix milliseconds.
    begin: i64,
}

/// How many requests each connection to one server has sent.
#[derive(Clone, Debug)]
pub(super) struct Places(Vec<u64>);

/// Requests that are made already, for each connection.
pub(super) struct Ready(Vec<VecDeque<Vec<u8>>>);

/// How much is sent, and how.
pub(super) struct Leg<'a> {
    pub(super) addr: SocketAddr,
    pub(super) amount: Amount,
    /// Samples a second; without it, as fast as they are taken.
    pub(super) rate: Option<f64>,
    pub(super) interrupt: &'a Interrupt,
}

/// When a leg ends.
#[derive(Clone, Copy)]
pub(super) enum Amount {
    /// After so many samples of every series.
    Steps(u64),
    /// After so long.
    Time(Duration),
}

/// What the connections saw.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) samples: u64,
    /// How long each request took that was taken, from its first byte to the answer.
    pub(super) answers: Vec<Duration>,
    /// Requests that were answered 503, and sent again.
    pub(super) refused: u64,
}

impl Load {
    /// So many series, in requests of `per_request` of them, over at most `connections`.
    pub(super) fn new(
        shape: Shape,
        protocol: Protocol,
        series: usize,
        per_request: usize,
        connections: usize,
    ) -> Self {
        let begin = (unix_ms() - PAST_MS) / STEP_MS * STEP_MS;
        let count = connections.min(series.div_ceil(per_request));
        let lane = || Lane { templates: Vec::new(), protocol, begin };
        let mut lanes: Vec<_> = std::iter::repeat_with(lane).take(count).collect();
        for (number, first) in (0..series).step_by(per_request).enumerate() {
            let template = Template::new(shape, protocol, first, per_request.min(series - first));
            lanes[number % count].templates.push(template);
        }
        Self { lanes, series }
    }

    pub(super) fn series(&self) -> usize {
        self.series
    }

    /// Nothing is sent yet.
    pub(super) fn start(&self) -> Places {
        Places(vec![0; self.lanes.len()])
    }

    /// Makes about `samples` that follow `places`, or as many as memory is given for.
    ///
    /// # Errors
    /// When it is interrupted.
    pub(super) fn prepare(
        &mut self,
        places: &Places,
        samples: f64,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Ready> {
        let steps = samples / self.series as f64;
        let bytes_max = READY_BYTES_MAX / self.lanes.len();
        let lanes = self.lanes.iter_mut().zip(&places.0);
        let ready = on_threads(lanes, |(lane, &place)| {
            let requests = (lane.templates.len() as f64 * steps).ceil() as u64;
            lane.prepare(place, requests, (bytes_max, interrupt))
        })?;
        Ok(Ready(ready))
    }

    /// Sends what follows `places`, what is `ready` first. What a connection is late with it sends at once.
    ///
    /// # Errors
    /// When a server refuses for good or goes away, when the load reaches the present, or when it is interrupted.
    pub(super) fn send(&mut self, places: &mut Places, ready: Ready, leg: &Leg<'_>) -> anyhow::Result<Sent> {
        let begin = Instant::now();
        let lanes = self.lanes.len();
        let work = self.lanes.iter_mut().zip(&mut places.0).zip(ready.0).enumerate();
        let sent = on_threads(work, |(number, ((lane, place), ready))| {
            let mut sender = Sender { lane, place, ready, sent: Sent::default() };
            sender.run(leg, begin, (number, lanes))?;
            Ok(sender.sent)
        })?;
        let mut all = Sent::default();
        for one in sent {
            all.samples += one.samples;
            all.answers.extend(one.answers);
            all.refused += one.refused;
        }
        Ok(all)
    }
}

/// Does each piece of work on a thread of its own.
fn on_threads<W: Send, T: Send>(
    work: impl Iterator<Item = W>,
    run: impl Fn(W) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let run = &run;
    thread::scope(|scope| {
        let threads: Vec<_> = work.map(|piece| scope.spawn(move || run(piece))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("no sender panics"));
        ended.collect()
    })
}

impl Lane {
    fn prepare(
        &mut self,
        place: u64,
        requests: u64,
        (bytes_max, interrupt): (usize, &Interrupt),
    ) -> anyhow::Result<VecDeque<Vec<u8>>> {
        let (mut ready, mut bytes) = (VecDeque::new(), 0);
        for place in place..place + requests {
            if bytes > bytes_max || self.is_ahead(place) {
                break;
            }
            interrupt.check()?;
            let body = self.body(place)?;
            bytes += body.len();
            ready.push_back(body);
        }
        Ok(ready)
    }

    fn samples(&self, place: u64) -> u64 {
        self.templates[place as usize % self.templates.len()].samples() as u64
    }

    fn step(&self, place: u64) -> i64 {
        (place / self.templates.len() as u64) as i64
    }

    fn is_ahead(&self, place: u64) -> bool {
        self.step(place) * STEP_MS >= PAST_MS
    }

    fn body(&mut self, place: u64) -> anyhow::Result<Vec<u8>> {
        let step = self.step(place);
        if self.is_ahead(place) {
            bail!("{step} samples of each series reach the present; ask for more series, or less time");
        }
        let count = self.templates.len();
        let timestamp = self.begin + step * STEP_MS;
        Ok(self.templates[place as usize % count].body(step, timestamp))
    }
}

/// One connection at work.
struct Sender<'a> {
    lane: &'a mut Lane,
    place: &'a mut u64,
    ready: VecDeque<Vec<u8>>,
    sent: Sent,
}

impl Sender<'_> {
    fn run(&mut self, leg: &Leg<'_>, begin: Instant, (number, lanes): (usize, usize)) -> anyhow::Result<()> {
        let mut connection = Connection::open(leg.addr)?;
        let last = match leg.amount {
            Amount::Steps(steps) => *self.place + steps * self.lane.templates.len() as u64,
            Amount::Time(_) => u64::MAX,
        };
        let mut due = begin;
        let each = |samples: u64, rate: f64| Duration::from_secs_f64(samples as f64 / rate);
        if let Some(rate) = leg.rate {
            due += each(self.lane.samples(*self.place) * number as u64, rate);
        }
        while *self.place < last {
            let body = match self.ready.pop_front() {
                Some(body) => body,
                None => self.lane.body(*self.place)?,
            };
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if matches!(leg.amount, Amount::Time(span) if begin.elapsed() >= span) {
                break;
            }
            connection = self.post(connection, &body, leg)?;
            let samples = self.lane.samples(*self.place);
            self.sent.samples += samples;
            *self.place += 1;
            if let Some(rate) = leg.rate {
                due += each(samples * lanes as u64, rate);
            }
        }
        Ok(())
    }

    /// Posts `body` until it is taken.
    fn post(&mut self, mut connection: Connection, body: &[u8], leg: &Leg<'_>) -> anyhow::Result<Connection> {
        let mut breaks = 0;
        loop {
            leg.interrupt.check()?;
            let begin = Instant::now();
            match connection.post(self.lane.protocol, body) {
                Ok((200..=299, _)) => {
                    self.sent.answers.push(begin.elapsed());
                    return Ok(connection);
                }
                Ok((503, _)) => self.sent.refused += 1,
                // A server that refuses before it has read the body may close the connection.
                Err(error) if breaks >= BREAKS_MAX => return Err(error).context("send a request"),
                Err(_) => breaks += 1,
                Ok((status, text)) => bail!("the server answered {status}: {}", text.trim()),
            }
            thread::sleep(PAUSE);
            connection = Connection::open(leg.addr)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::Sink;
    use super::*;

    #[test]
    fn every_connection_sends_its_own_requests_step_after_step() {
        let interrupt = Interrupt::default();
        let mut load = Load::new(Shape::Alike, Protocol::V1, 25, 10, 2);
        let sink = Sink::start().unwrap();
        let mut places = load.start();
        let ready = load.prepare(&places, 100.0, &interrupt).unwrap();
        let made: Vec<_> = ready.0.iter().map(VecDeque::len).collect();
        // Three requests a step: two of one connection, one of the other. 100 samples are four steps.
        assert_eq!(made, [8, 4]);
        let leg = Leg { addr: sink.addr, amount: Amount::Steps(5), rate: None, interrupt: &interrupt };
        let sent = load.send(&mut places, ready, &leg).unwrap();
        assert_eq!((sent.samples, sent.answers.len(), sent.refused), (125, 15, 0));
        assert_eq!(places.0, [10, 5]);
        assert_eq!(sink.taken().0, 15);
    }

    #[test]
    fn a_rate_is_kept_in_all() {
        let interrupt = Interrupt::default();
        let mut load = Load::new(Shape::Alike, Protocol::V1, 20, 10, 2);
        let sink = Sink::start().unwrap();
        let (mut places, ready) = (load.start(), Ready(vec![VecDeque::new(); 2]));
        let begin = Instant::now();
        let leg = Leg { addr: sink.addr, amount: Amount::Steps(3), rate: Some(400.0), interrupt: &interrupt };
        load.send(&mut places, ready, &leg).unwrap();
        // Six requests, one every 25 ms from 0 on: however slow the machine is, it takes no less.
        assert!(begin.elapsed() >= Duration::from_millis(125), "{:?}", begin.elapsed());
    }

    #[test]
    fn an_interrupt_ends_it() {
        let interrupt = Interrupt::default();
        interrupt.raise();
        let mut load = Load::new(Shape::Alike, Protocol::V1, 20, 10, 2);
        assert!(load.prepare(&load.start(), 100.0, &interrupt).is_err());
    }
}
