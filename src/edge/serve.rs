//! The HTTP server: accepts connections within limits and hands requests to the routes.
//!
//! HTTP/1.1 only. Its own accept loop, because a connection must not live by its peer's grace: heads, bodies,
//! idleness and answers have deadlines, and connections are capped in all and per address.

mod admission;
pub mod answer;
mod patience;
pub mod routes;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time;

use admission::{Admission, Place};
use patience::{Expired, PatientSocket, Turn};
use routes::Routes;

use super::limits::ReceiveLimits;
use super::telemetry;

/// Header lines of a request at most.
const HEADERS_MAX: usize = 64;
/// Bytes of a request's head at most.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Bytes that one connection buffers of what comes in and of what goes out.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// How long to wait after a failed accept; most often there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long and how much to go on reading from a peer that has its last answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 8 << 20;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[error("listen on {listen}")]
pub struct CannotListen {
    /// The address as it was given.
    pub listen: String,
    /// What the system said.
    pub source: io::Error,
}

/// A server before it listens.
#[derive(Debug)]
pub struct Server;

/// A server that listens. Dropping it lets it drain in the background.
#[derive(Debug)]
pub struct Bound {
    /// Where it listens; the port is the real one if 0 was asked for.
    pub addr: SocketAddr,
    routes: Arc<Routes>,
    drain: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Listens on `listen` (`host:port`) and answers by `routes` in the background.
    ///
    /// # Errors
    ///
    /// [`CannotListen`] when the address is not to be had.
    pub async fn start(listen: &str, limits: &ReceiveLimits, routes: Routes) -> Result<Bound, CannotListen> {
        let cannot = |source| CannotListen { listen: listen.to_owned(), source };
        let listener = TcpListener::bind(listen).await.map_err(cannot)?;
        let addr = listener.local_addr().map_err(cannot)?;
        let (drain, draining) = watch::channel(false);
        let routes = Arc::new(routes);
        let shared = Shared {
            routes: Arc::clone(&routes),
            admission: Admission::new(limits, Arc::clone(routes.metrics())),
            limits: limits.clone(),
            draining,
        };
        let accepting = tokio::spawn(accept(listener, Arc::new(shared)));
        Ok(Bound { addr, routes, drain, accepting })
    }
}

impl Bound {
    /// Answers `/-/ready` with success from now on.
    pub fn set_ready(&self) {
        self.routes.set_ready();
    }

    /// Accepts no more connections, closes those that wait for a request, lets requests in flight finish for
    /// up to `grace`, and then closes what is left.
    pub async fn shutdown(mut self, grace: Duration) {
        self.routes.set_draining();
        // Without a receiver the accept loop has already ended.
        let _ = self.drain.send(true);
        if time::timeout(grace, &mut self.accepting).await.is_err() {
            self.accepting.abort();
        }
    }
}

struct Shared {
    routes: Arc<Routes>,
    admission: Arc<Admission>,
    limits: ReceiveLimits,
    draining: watch::Receiver<bool>,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut draining = shared.draining.clone();
    loop {
        tokio::select! {
            biased;
            () = wait_for_drain(&mut draining) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(place) = shared.admission.admit(peer.ip()) {
                        connections.spawn(serve(stream, place, Arc::clone(&shared)));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "accept connection");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn wait_for_drain(draining: &mut watch::Receiver<bool>) {
    // An error says that the server was dropped, which is a drain as well.
    drop(draining.wait_for(|draining| *draining).await);
}

/// Answers the requests of one connection until either side has had enough.
async fn serve(stream: TcpStream, place: Place, shared: Arc<Shared>) {
    // Answers are one small packet; waiting for more of it would only delay the sender.
    let _ = stream.set_nodelay(true);
    let turn = Turn::default();
    let socket = PatientSocket::new(stream, turn.clone(), &shared.limits);
    let answer = service_fn(|request| {
        let busy = turn.begin();
        let routes = Arc::clone(&shared.routes);
        async move {
            let answer = routes.answer(request).await;
            drop(busy);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // A backstop, and what makes hyper ask for the next head as soon as one answer is written. The
        // socket itself has deadlines, a shorter one for heads than for idleness.
        .header_read_timeout(shared.limits.idle_timeout.saturating_add(shared.limits.header_timeout))
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), answer);
    let mut draining = shared.draining.clone();
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = wait_for_drain(&mut draining) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    let socket = connection.into_parts().io.into_inner();
    if let Err(error) = ended {
        tracing::debug!(%error, "close connection");
    }
    if socket.expired() == Some(Expired::Head) {
        telemetry::count(&shared.routes.metrics().connections_refused, "reason", "header_timeout", 1);
    }
    linger(socket).await;
    drop(place);
}

/// Reads on for a moment after the last answer. Closing with unread bytes would reset the connection, and the
/// peer, still sending its body, might never see why it was refused.
async fn linger(socket: PatientSocket) {
    let mut rest = socket.into_inner().take(LINGER_BYTES_MAX);
    let _ = time::timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}
