//! Questions about what was judged lately: JSON for programs, a page for people.
//!
//! | route | answer |
//! |---|---|
//! | `/api/v1/status` | version and counts |
//! | `/api/v1/series?match[]=&points=&limit=&offset=` | signals, their last judgement, forecast and points |
//! | `/api/v1/anomalies?match[]=&limit=&offset=` | episodes of a raised flag, the latest first, with value, band and votes |
//! | `/` | the page |
//!
//! `match[]` is a PromQL selector over the labels of derived series, which carry the source's name as
//! `metric_name`. `limit` is 100 unless said otherwise, 1,000 at most; `total` counts what matched.

mod views;

use std::sync::Arc;

use hyper::{Request, StatusCode};
use serde::Serialize;

use super::recent::Recent;
use super::serve::answer::{self, Answer};
use super::serve::routes::Routes;
use super::telemetry::Metrics;
use crate::engine::select::Matchers;
use crate::series::LabelRun;
use views::{SeriesView, Status};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// What the page may load: nothing but itself.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers questions from memory; never waits.
#[derive(Clone, Debug)]
pub struct Api {
    recent: Recent,
    metrics: Arc<Metrics>,
}

/// A part of a list.
#[derive(Serialize)]
struct Paged<T> {
    total: usize,
    data: Vec<T>,
}

/// Which part of a list, of what.
#[derive(Debug)]
struct Wanted {
    select: Option<Matchers>,
    points: bool,
    limit: usize,
    offset: usize,
}

impl Api {
    /// Answers from `recent` and `metrics`.
    pub fn new(recent: Recent, metrics: Arc<Metrics>) -> Self {
        Self { recent, metrics }
    }

    /// Adds its routes.
    pub fn mount(self, routes: Routes) -> Routes {
        let (series, anomalies, status) = (self.clone(), self.clone(), self);
        routes
            .with_query("/", |_| page())
            .with_query("/api/v1/status", move |_| status.status())
            .with_query("/api/v1/series", move |request| series.listed(request, Self::series))
            .with_query("/api/v1/anomalies", move |request| anomalies.listed(request, Self::anomalies))
    }

    fn listed(&self, request: &Request<()>, list: impl Fn(&Self, &Wanted) -> Answer) -> Answer {
        match Wanted::read(request.uri().query().unwrap_or_default()) {
            Ok(wanted) => list(self, &wanted),
            Err(message) => answer::error(StatusCode::BAD_REQUEST, &message),
        }
    }

    fn status(&self) -> Answer {
        answer::json(StatusCode::OK, &Status::of(&self.metrics))
    }

    fn series(&self, wanted: &Wanted) -> Answer {
        let page = wanted.offset..wanted.offset.saturating_add(wanted.limit);
        let (total, views) = self.recent.signals(|labels| wanted.takes(labels), page);
        let data = views.iter().map(|view| SeriesView::of(view, wanted.points)).collect();
        answer::json(StatusCode::OK, &Paged { total, data })
    }

    fn anomalies(&self, wanted: &Wanted) -> Answer {
        let mut all = self.recent.episodes();
        all.retain(|episode| wanted.takes(episode.labels.run()));
        answer::json(StatusCode::OK, &wanted.page(all))
    }
}

fn page() -> Answer {
    let page = answer::content(StatusCode::OK, "text/html; charset=utf-8", include_str!("api/page.html"));
    answer::with_header(page, hyper::header::CONTENT_SECURITY_POLICY, PAGE_POLICY)
}

impl Wanted {
    fn read(query: &str) -> Result<Self, String> {
        let mut wanted = Self { select: None, points: false, limit: LIMIT_DEFAULT, offset: 0 };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "match[]" | "match" => {
                    let select = Matchers::parse(&value).map_err(|error| format!("match[]: {error}"))?;
                    if wanted.select.replace(select).is_some() {
                        return Err("match[]: one selector is taken, more were given".to_owned());
                    }
                }
                "points" => wanted.points = flag(&value)?,
                "limit" => wanted.limit = number(&name, &value)?.min(LIMIT_MAX),
                "offset" => wanted.offset = number(&name, &value)?,
                other => {
                    return Err(format!(
                        "{other}: unknown parameter; known are match[], points, limit, offset"
                    ));
                }
            }
        }
        Ok(wanted)
    }

    fn takes(&self, labels: LabelRun<'_>) -> bool {
        self.select.as_ref().is_none_or(|select| select.matches(labels))
    }

    fn page<T>(&self, all: Vec<T>) -> Paged<T> {
        Paged { total: all.len(), data: all.into_iter().skip(self.offset).take(self.limit).collect() }
    }
}

fn flag(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| format!("points: {value:?} is neither true nor false"))
}

fn number(name: &str, value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| format!("{name}: {value:?} is no whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_or_its_fault_is_named() {
        let read = |query| Wanted::read(query).map(|it| (it.points, it.limit, it.offset));
        assert_eq!(read(""), Ok((false, 100, 0)));
        assert_eq!(read("points=true&limit=5000&offset=7"), Ok((true, 1000, 7)));
        assert_eq!(read("limit=-1"), Err("limit: \"-1\" is no whole number".to_owned()));
        assert_eq!(read("points=1"), Err("points: \"1\" is neither true nor false".to_owned()));
        assert!(read("nonsense=1").is_err_and(|error| error.contains("known are match[]")));
        assert!(read("match[]=%7B%22").is_err_and(|error| error.starts_with("match[]: ")));
        assert!(read("match[]=up&match[]=down").is_err());
        assert!(Wanted::read("match[]=%7Bjob%3D%22a%22%7D").is_ok_and(|it| it.select.is_some()));
    }
}
