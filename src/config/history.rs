//! Where history is, from what is written to what asks for it.

use std::collections::BTreeMap;
use std::path::Path;

use hyper::Uri;

use super::reader::Place;
use super::{remote, units};
use crate::edge::history::HistorySpec;
use crate::series::{LabelRunBuf, METRIC_NAME, REPLICA};
use crate::wire::decode::Limits;

/// The environment variable that stands in for `history.url`.
pub(super) const URL_VARIABLE: &str = "PROMETHEUS_URL";

/// Reads the section; `None` where there is no address. `fallback` is what [`URL_VARIABLE`] holds; relative paths of
/// secrets start at `base`.
pub(super) fn read(place: &Place<'_>, base: &Path, fallback: Option<&str>) -> Option<HistorySpec> {
    place.check_keys();
    let headers = remote::headers(place, base);
    let timeout = place.get("timeout").read(units::positive_duration);
    let max_gap = place.get("max_gap").read(units::positive_duration);
    let labels = labels(&place.get("labels"));
    let url = address(&place.get("url"), fallback)?;
    Some(HistorySpec { url, headers, timeout, max_gap, labels })
}

fn labels(place: &Place<'_>) -> BTreeMap<String, String> {
    let read = |(name, value): (String, Place<'_>)| {
        let text = value.required(|text| label_value(&name, text))?;
        // Received series lose it, so fetched ones have none, either.
        (name != REPLICA).then_some((name, text))
    };
    let labels: BTreeMap<_, _> = place.entries().into_iter().filter_map(read).collect();
    let Limits { labels_max, label_bytes_max, .. } = Limits::default();
    let run = labels.iter().map(|(name, value)| (&**name, &**value)).collect::<LabelRunBuf>().encode();
    if labels.len() >= labels_max || run.len() >= label_bytes_max {
        place.fail(format!("leaves a series nothing of its {labels_max} labels and {label_bytes_max} bytes"));
    }
    labels
}

fn label_value(name: &str, text: &str) -> Result<String, String> {
    let limits = Limits::default();
    match name {
        "" | METRIC_NAME => Err("is no label that series have in common".to_owned()),
        _ if text.is_empty() => Err("is empty; a label without a value is none".to_owned()),
        _ if name.len() > limits.name_bytes_max || text.len() > limits.value_bytes_max => {
            Err("is longer than a label may be".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
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
