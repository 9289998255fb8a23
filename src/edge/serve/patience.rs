//! A socket with deadlines: for the head of a request, for idleness between requests, for a peer that does
//! not take its answer.
//!
//! A deadline for a head is set when its first byte comes and is not moved by further bytes, so that a peer
//! cannot hold a connection by sending one byte at a time. While a request is being answered there is none
//! here: its body has its own.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{self, Instant, Sleep};

use crate::edge::limits::ReceiveLimits;

/// Whose turn it is: even while the peer's, odd while ours. Shared by a socket and what answers on it.
#[derive(Clone, Default, Debug)]
pub(super) struct Turn(Arc<AtomicU64>);

/// Our turn, until dropped.
#[derive(Debug)]
pub(super) struct Busy(Turn);

impl Turn {
    /// Takes the turn: a request is there.
    pub(super) fn begin(&self) -> Busy {
        self.0.fetch_add(1, Ordering::AcqRel);
        Busy(self.clone())
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// What took too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expired {
    /// The head of a request.
    Head,
    /// The wait for a further request.
    Idle,
    /// The peer's taking of an answer.
    Answer,
}

/// A TCP socket that fails with `TimedOut` when its peer is too slow.
#[derive(Debug)]
pub(super) struct PatientSocket {
    stream: TcpStream,
    turn: Turn,
    /// Turn that `reading` was set for.
    seen: u64,
    reading: Option<Wait>,
    writing: Option<Wait>,
    expired: Option<Expired>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

#[derive(Debug)]
struct Wait {
    until: Pin<Box<Sleep>>,
    expires: Expired,
}

impl Wait {
    fn new(timeout: Duration, expires: Expired) -> Self {
        Self { until: Box::pin(time::sleep_until(Instant::now() + timeout)), expires }
    }
}

impl PatientSocket {
    /// Takes a fresh connection; the head of its first request is due from now.
    pub(super) fn new(stream: TcpStream, turn: Turn, limits: &ReceiveLimits) -> Self {
        Self {
            stream,
            seen: turn.count(),
            turn,
            reading: Some(Wait::new(limits.header_timeout, Expired::Head)),
            writing: None,
            expired: None,
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
        }
    }

    /// Which deadline has passed, if any.
    pub(super) fn expired(&self) -> Option<Expired> {
        self.expired
    }

    /// The socket without deadlines.
    pub(super) fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// Forgets deadlines of former turns; true while the peer is to speak.
    fn peers_turn(&mut self) -> bool {
        let turn = self.turn.count();
        if turn != self.seen {
            self.seen = turn;
            self.reading = None;
        }
        turn.is_multiple_of(2)
    }

    fn bytes_came(&mut self) {
        let in_head = self.reading.as_ref().is_some_and(|wait| wait.expires == Expired::Head);
        if self.peers_turn() && !in_head {
            self.reading = Some(Wait::new(self.header_timeout, Expired::Head));
        }
    }

    fn poll_reading(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.peers_turn() {
            return Poll::Pending;
        }
        let idle = self.idle_timeout;
        let wait = self.reading.get_or_insert_with(|| Wait::new(idle, Expired::Idle));
        poll_expired(wait, &mut self.expired, cx)
    }

    fn poll_writing(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let idle = self.idle_timeout;
        let wait = self.writing.get_or_insert_with(|| Wait::new(idle, Expired::Answer));
        poll_expired(wait, &mut self.expired, cx)
    }

    /// Passes a finished write on, or waits for it with a deadline.
    fn written(&mut self, polled: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if polled.is_ready() {
            self.writing = None;
            return polled;
        }
        self.poll_writing(cx).map(Err)
    }
}

fn poll_expired(wait: &mut Wait, expired: &mut Option<Expired>, cx: &mut Context<'_>) -> Poll<io::Error> {
    std::task::ready!(wait.until.as_mut().poll(cx));
    *expired = Some(wait.expires);
    Poll::Ready(io::ErrorKind::TimedOut.into())
}

impl AsyncRead for PatientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if polled.is_pending() {
            return this.poll_reading(cx).map(Err);
        }
        if buffer.filled().len() > before {
            this.bytes_came();
        }
        polled
    }
}

impl AsyncWrite for PatientSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(polled, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.written(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
