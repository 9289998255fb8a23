//! What waits for one target: a queue for each lane, and one limit of bytes for all of them.
//!
//! At the limit the oldest requests go, whichever lane they wait in: the newest judgement is worth most.
//! The request that a lane is sending is its own and no longer waits here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use super::Outgoing;

/// Requests that wait for one target.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Vec<Notify>,
    bytes: Gauge,
}

#[derive(Debug)]
struct State {
    lanes: Vec<VecDeque<Waiting>>,
    bytes: usize,
    bytes_max: usize,
    arrivals: u64,
    phase: Phase,
}

#[derive(Debug)]
struct Waiting {
    arrival: u64,
    request: Arc<Outgoing>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Requests come and go.
    Open,
    /// Lanes end when nothing waits for them any more.
    Draining,
    /// Whatever comes is dropped.
    Closed,
}

impl Queue {
    /// An empty queue of `lanes` lanes, for `bytes_max` bytes of bodies, which tells its size by `bytes`.
    pub(super) fn new(lanes: usize, bytes_max: usize, bytes: Gauge) -> Self {
        let state = State {
            lanes: (0..lanes).map(|_| VecDeque::new()).collect(),
            bytes: 0,
            bytes_max,
            arrivals: 0,
            phase: Phase::Open,
        };
        Self { state: Mutex::new(state), wake: (0..lanes).map(|_| Notify::new()).collect(), bytes }
    }

    /// Adds `request` at the end of `lane`, and returns how many samples were dropped to make room.
    pub(super) fn push(&self, lane: usize, request: Arc<Outgoing>) -> usize {
        let mut state = self.lock();
        if state.phase == Phase::Closed {
            return request.samples;
        }
        state.bytes = state.bytes.saturating_add(request.body.len());
        let arrival = state.arrivals;
        state.arrivals += 1;
        state.lanes[lane].push_back(Waiting { arrival, request });
        let dropped = state.make_room();
        self.tell(&state);
        self.wake[lane].notify_one();
        dropped
    }

    /// Sets another limit, and returns how many samples were dropped to keep it.
    pub(super) fn resize(&self, bytes_max: usize) -> usize {
        let mut state = self.lock();
        state.bytes_max = bytes_max;
        let dropped = state.make_room();
        self.tell(&state);
        dropped
    }

    /// Takes the oldest request of `lane`; waits for one. `None` once the queue is draining and `lane`
    /// empty. Each lane has one taker.
    pub(super) async fn take(&self, lane: usize) -> Option<Arc<Outgoing>> {
        loop {
            if let Some(outcome) = self.try_take(lane) {
                return outcome;
            }
            self.wake[lane].notified().await;
        }
    }

    /// The request that has `distance` others of `lane` before it, or the last one; `None` where none waits.
    pub(super) fn peek(&self, lane: usize, distance: usize) -> Option<Arc<Outgoing>> {
        let state = self.lock();
        let waiting = &state.lanes[lane];
        let at = distance.min(waiting.len().checked_sub(1)?);
        waiting.get(at).map(|one| Arc::clone(&one.request))
    }

    /// Removes `request` from `lane`, if it still waits there.
    pub(super) fn remove(&self, lane: usize, request: &Arc<Outgoing>) {
        let mut state = self.lock();
        let found = state.lanes[lane].iter().position(|one| Arc::ptr_eq(&one.request, request));
        if let Some(gone) = found.and_then(|at| state.lanes[lane].remove(at)) {
            state.bytes -= gone.request.body.len();
        }
        self.tell(&state);
    }

    /// From now on, `take` ends when a lane is empty.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Draining;
        }
        self.wake.iter().for_each(Notify::notify_one);
    }

    /// Empties the queue for good, and returns how many samples waited.
    pub(super) fn close(&self) -> usize {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        state.bytes = 0;
        let waiting = state.lanes.iter_mut().flat_map(|lane| lane.drain(..));
        let samples = waiting.map(|one| one.request.samples).sum();
        self.tell(&state);
        self.wake.iter().for_each(Notify::notify_one);
        samples
    }

    /// The answer of `take`, if there is one already.
    fn try_take(&self, lane: usize) -> Option<Option<Arc<Outgoing>>> {
        let mut state = self.lock();
        let Some(first) = state.lanes[lane].pop_front() else {
            return (state.phase != Phase::Open).then_some(None);
        };
        state.bytes -= first.request.body.len();
        self.tell(&state);
        Some(Some(first.request))
    }

    fn tell(&self, state: &State) {
        self.bytes.set(i64::try_from(state.bytes).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops the oldest until the rest fits; returns their samples.
    fn make_room(&mut self) -> usize {
        let mut dropped = 0;
        while self.bytes > self.bytes_max {
            let oldest = self.lanes.iter_mut().filter(|lane| !lane.is_empty());
            let oldest = oldest.min_by_key(|lane| lane.front().map(|one| one.arrival));
            let Some(gone) = oldest.and_then(VecDeque::pop_front) else { break };
            self.bytes -= gone.request.body.len();
            dropped += gone.request.samples;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(samples: usize, bytes: usize) -> Arc<Outgoing> {
        Arc::new(Outgoing { body: Bytes::from(vec![0; bytes]), samples, oldest: 0, newest: 0 })
    }

    #[test]
    fn the_oldest_go_first_whichever_lane_they_wait_in() {
        let bytes = Gauge::default();
        let queue = Queue::new(2, 100, bytes.clone());
        assert_eq!(queue.push(1, request(1, 40)), 0);
        assert_eq!(queue.push(0, request(2, 40)), 0);
        assert_eq!(queue.push(0, request(4, 20)), 0);
        assert_eq!(queue.push(0, request(8, 60)), 1 + 2);
        assert_eq!(bytes.get(), 80);
        assert!(queue.peek(1, 0).is_none());
        assert_eq!(queue.peek(0, 9).unwrap().samples, 8);
    }

    #[test]
    fn a_request_above_the_limit_is_dropped_itself() {
        let queue = Queue::new(1, 100, Gauge::default());
        assert_eq!(queue.push(0, request(3, 101)), 3);
        assert_eq!(queue.push(0, request(3, 100)), 0);
        assert_eq!(queue.resize(99), 3);
    }

    #[test]
    fn a_closed_queue_counts_what_waited_and_what_still_comes() {
        let queue = Queue::new(1, 100, Gauge::default());
        queue.push(0, request(3, 10));
        assert_eq!(queue.close(), 3);
        assert_eq!(queue.push(0, request(5, 10)), 5);
        assert_eq!(queue.close(), 0);
    }

    #[test]
    fn a_request_that_was_sent_ahead_no_longer_waits() {
        let bytes = Gauge::default();
        let queue = Queue::new(1, 100, bytes.clone());
        let (first, second) = (request(1, 10), request(2, 20));
        queue.push(0, Arc::clone(&first));
        queue.push(0, Arc::clone(&second));
        queue.remove(0, &second);
        queue.remove(0, &second);
        assert_eq!(bytes.get(), 10);
        assert!(Arc::ptr_eq(&queue.peek(0, 1).unwrap(), &first));
    }
}
