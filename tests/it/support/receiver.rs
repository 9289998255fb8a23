//! A remote-write receiver on a loopback port that behaves as badly as it is told to.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use promantis::wire::prompb::v1::WriteRequest;
use promantis::wire::prompb::v2;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What does not happen for so long does not happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A sample as it arrived: the values of its series' labels, joined by commas, and the sample.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Arrived {
    pub(crate) series: String,
    pub(crate) timestamp: i64,
    pub(crate) value: f64,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    /// How many came before it.
    pub(crate) nth: usize,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// Compressed, as on the wire.
    pub(crate) body: Bytes,
    /// In the order of the request.
    pub(crate) samples: Vec<Arrived>,
}

impl Post {
    /// Whether a sample of `series` is in it.
    pub(crate) fn has(&self, series: &str) -> bool {
        self.samples.iter().any(|sample| sample.series == series)
    }
}

/// What the receiver does with a request.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Reply {
    /// Answers with this status; 2xx takes the request.
    Status(u16),
    /// Answers with this status and one header.
    With(u16, &'static str, &'static str),
    /// Never answers.
    Hang,
    /// Closes the connection instead of an answer.
    Cut,
}

impl Reply {
    fn takes(&self) -> bool {
        matches!(self, Self::Status(200..=299) | Self::With(200..=299, ..))
    }
}

type Behaviour = dyn Fn(&Post) -> Reply + Send + Sync;

/// A receiver. Ends when dropped; connections that are open stay.
pub(crate) struct Receiver {
    addr: SocketAddr,
    log: Arc<Mutex<Vec<(Post, Reply)>>>,
    accepting: JoinHandle<()>,
}

impl Receiver {
    /// Listens on a free port of the loopback interface.
    pub(crate) async fn start(behaviour: impl Fn(&Post) -> Reply + Send + Sync + 'static) -> Self {
        // Whoever asks for an address first and binds it then may find that another connection has it.
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), behaviour).await
    }

    /// Listens on `addr`.
    pub(crate) async fn start_on(
        addr: SocketAddr,
        behaviour: impl Fn(&Post) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr).await.expect("the port is free");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (behaviour, shared): (Arc<Behaviour>, _) = (Arc::new(behaviour), Arc::clone(&log));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&behaviour), Arc::clone(&shared)));
            }
        });
        Self { addr, log, accepting }
    }

    /// Where requests are to be posted.
    pub(crate) fn url(&self) -> Uri {
        url(self.addr)
    }

    /// All requests so far, whatever became of them.
    pub(crate) fn posts(&self) -> Vec<Post> {
        self.log().iter().map(|(post, _)| post.clone()).collect()
    }

    /// All samples that were taken so far, in the order of arrival.
    pub(crate) fn taken(&self) -> Vec<Arrived> {
        let log = self.log();
        let taken = log.iter().filter(|(_, reply)| reply.takes());
        taken.flat_map(|(post, _)| post.samples.clone()).collect()
    }

    /// Waits until so many requests came.
    pub(crate) async fn wait_for_posts(&self, count: usize) {
        eventually(&format!("{count} requests come"), || self.log().len() >= count).await;
    }

    /// Waits until so many samples were taken.
    pub(crate) async fn wait_for_taken(&self, count: usize) {
        eventually(&format!("{count} samples are taken"), || self.taken().len() >= count).await;
    }

    fn log(&self) -> MutexGuard<'_, Vec<(Post, Reply)>> {
        self.log.lock().expect("no behaviour panics")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The address where a receiver at `addr` is posted to.
pub(crate) fn url(addr: SocketAddr) -> Uri {
    format!("http://{addr}/api/v1/write").parse().expect("an address makes a URL")
}

/// Waits until `condition` holds; fails the test when it does not come to pass.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn serve(stream: TcpStream, behaviour: Arc<Behaviour>, log: Arc<Mutex<Vec<(Post, Reply)>>>) {
    let service = service_fn(|request| answer(request, &behaviour, &log));
    // A connection that was cut on purpose ends with an error.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    behaviour: &Arc<Behaviour>,
    log: &Mutex<Vec<(Post, Reply)>>,
) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok());
    let samples = match content_type {
        Some(value) if value.contains("write.v2") => samples_v2(&body),
        _ => samples(&body),
    };
    let reply = {
        let mut log = log.lock().expect("no behaviour panics");
        let post = Post { nth: log.len(), method: head.method, headers: head.headers, body, samples };
        let reply = behaviour(&post);
        log.push((post, reply.clone()));
        reply
    };
    let response = Response::builder();
    let response = match reply {
        Reply::Status(status) => response.status(status),
        Reply::With(status, name, value) => response.status(status).header(name, value),
        Reply::Cut => return Err(io::Error::other("cut")),
        Reply::Hang => return Ok(std::future::pending::<Result<_, Infallible>>().await.expect("never")),
    };
    Ok(response.body(Full::default()).expect("the reply is a response"))
}

fn samples_v2(body: &[u8]) -> Vec<Arrived> {
    let raw = snap::raw::Decoder::new().decompress_vec(body).expect("bodies are snappy");
    let request = v2::Request::decode(raw.as_slice()).expect("bodies are requests");
    let text = |place: &u32| String::from_utf8_lossy(&request.symbols[*place as usize]);
    let samples = request.timeseries.iter().flat_map(|series| {
        let values: Vec<_> = series.labels_refs.iter().skip(1).step_by(2).map(text).collect();
        let name = values.join(",");
        series.samples.iter().map(move |sample| Arrived {
            series: name.clone(),
            timestamp: sample.timestamp,
            value: sample.value,
        })
    });
    samples.collect()
}

fn samples(body: &[u8]) -> Vec<Arrived> {
    let raw = snap::raw::Decoder::new().decompress_vec(body).expect("bodies are snappy");
    let request = WriteRequest::decode(raw.as_slice()).expect("bodies are requests");
    let samples = request.timeseries.into_iter().flat_map(|series| {
        let values = series.labels.iter().map(|label| String::from_utf8_lossy(&label.value).into_owned());
        let name = values.collect::<Vec<_>>().join(",");
        series.samples.into_iter().map(move |sample| Arrived {
            series: name.clone(),
            timestamp: sample.timestamp,
            value: sample.value,
        })
    });
    samples.collect()
}
