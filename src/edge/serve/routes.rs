//! The table of routes: which path is answered by whom.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hyper::body::{Body, Incoming};
use hyper::{Method, Request, StatusCode, header};
use serde::Serialize;

use super::answer::{self, Answer};
use crate::edge::receive::Receiver;
use crate::edge::telemetry::Metrics;

/// Content type of `/metrics`.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Loads the configuration again; the error says why it was not taken. May block.
pub type Reload = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Answers a `GET` from its path, query and headers. May wait for a lock.
pub type Query = Arc<dyn Fn(&Request<()>) -> Answer + Send + Sync>;

/// What answers requests.
pub struct Routes {
    receiver: Receiver,
    metrics: Arc<Metrics>,
    reload: Reload,
    queries: Vec<(&'static str, Query)>,
    stage: AtomicU8,
}

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    models_loaded: usize,
}

impl Routes {
    /// The routes that every process has.
    pub fn new(receiver: Receiver, metrics: Arc<Metrics>, reload: Reload) -> Self {
        Self { receiver, metrics, reload, queries: Vec::new(), stage: AtomicU8::new(STARTING) }
    }

    /// Adds a `GET` route at exactly `path`.
    pub fn with_query(
        mut self,
        path: &'static str,
        query: impl Fn(&Request<()>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.queries.push((path, Arc::new(query)));
        self
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(super) fn set_ready(&self) {
        // Who drains does not become ready again.
        let _ = self.stage.compare_exchange(STARTING, READY, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(super) fn set_draining(&self) {
        self.stage.store(DRAINING, Ordering::Release);
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.uri().path() == "/api/v1/write" && request.method() == Method::POST {
            return self.receiver.receive(request).await;
        }
        // Nobody else reads a body.
        let leaves_body_unread = !request.body().is_end_stream();
        let answer = self.answer_bodiless(request.map(drop)).await;
        if leaves_body_unread { answer::closing(answer) } else { answer }
    }

    async fn answer_bodiless(&self, request: Request<()>) -> Answer {
        match (request.uri().path(), request.method()) {
            ("/-/reload", &Method::POST) => self.reload().await,
            ("/api/v1/write" | "/-/reload", _) => not_allowed("POST"),
            _ => self.answer_get(request).await,
        }
    }

    async fn answer_get(&self, request: Request<()>) -> Answer {
        let query = self.queries.iter().find(|(known, _)| *known == request.uri().path());
        let query = query.map(|(_, query)| Arc::clone(query));
        let fixed = self.fixed(request.uri().path());
        match (request.method(), fixed, query) {
            (_, None, None) => answer::error(StatusCode::NOT_FOUND, "no such route"),
            (&Method::GET | &Method::HEAD, Some(answer), _) => answer,
            (&Method::GET | &Method::HEAD, None, Some(query)) => aside(move || query(&request)).await,
            _ => not_allowed("GET, HEAD"),
        }
    }

    fn fixed(&self, path: &str) -> Option<Answer> {
        match path {
            "/health" => Some(answer::json(StatusCode::OK, &Health { status: "ok", models_loaded: 0 })),
            "/-/healthy" => Some(answer::content(StatusCode::OK, "text/plain", "healthy\n")),
            "/-/ready" => Some(self.readiness()),
            "/metrics" => Some(answer::content(StatusCode::OK, OPENMETRICS, self.metrics.render())),
            _ => None,
        }
    }

    fn readiness(&self) -> Answer {
        match self.stage.load(Ordering::Acquire) {
            READY => answer::content(StatusCode::OK, "text/plain", "ready\n"),
            DRAINING => answer::error(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            _ => answer::error(StatusCode::SERVICE_UNAVAILABLE, "starting"),
        }
    }

    async fn reload(&self) -> Answer {
        let reload = Arc::clone(&self.reload);
        aside(move || match reload() {
            Ok(()) => answer::empty(StatusCode::OK),
            Err(message) => answer::error(StatusCode::INTERNAL_SERVER_ERROR, &message),
        })
        .await
    }
}

/// Answers beside the threads that read and write sockets, which must not wait.
async fn aside(answer: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    let answer = tokio::task::spawn_blocking(answer).await;
    answer.unwrap_or_else(|error| answer::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("stage", &self.stage).finish_non_exhaustive()
    }
}

fn not_allowed(allow: &'static str) -> Answer {
    let message = format!("method not allowed; allowed: {allow}");
    answer::with_header(answer::error(StatusCode::METHOD_NOT_ALLOWED, &message), header::ALLOW, allow)
}
