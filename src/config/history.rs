//! Where history is, from what is written to what asks for it.

use std::path::Path;

use hyper::Uri;

use super::reader::Place;
use super::{remote, units};
use crate::edge::history::HistorySpec;

/// The environment variable that stands in for `history.url`.
pub(super) const URL_VARIABLE: &str = "PROMETHEUS_URL";

/// Reads the section; `None` where there is no address. `fallback` is what [`URL_VARIABLE`] holds; relative paths of
/// secrets start at `base`.
pub(super) fn read(place: &Place<'_>, base: &Path, fallback: Option<&str>) -> Option<HistorySpec> {
    place.check_keys();
    let headers = remote::headers(place, base);
    let timeout = place.get("timeout").read(units::positive_duration);
    let max_gap = place.get("max_gap").read(units::positive_duration);
    let url = address(&place.get("url"), fallback)?;
    Some(HistorySpec { url, headers, timeout, max_gap })
}

fn address(place: &Place<'_>, fallback: Option<&str>) -> Option<Uri> {
    if place.is_written() {
        return place.optional(url);
    }
    let text = fallback.map(str::trim).filter(|text| !text.is_empty())?;
    url(text).map_err(|problem| place.fail(format!("environment variable `{URL_VARIABLE}`: {problem}"))).ok()
}

fn url(text: &str) -> Result<Uri, String> {
    remote::url(text, "http://127.0.0.1:9090")
}
