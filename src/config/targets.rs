//! Remote ends that are written to, from what is written to what the sender takes.

use std::path::Path;
use std::time::Duration;

use super::reader::Place;
use super::{monitors, remote, units};
use crate::edge::send::spec::{TargetSpec, WhenFull};
use crate::wire::decode::Protocol;

/// Characters of a target's name. One that is made of its address may be written, too, so there is room for that.
const NAME_CHARS_MAX: usize = 255;

const WHEN_FULL: [(&str, WhenFull); 2] =
    [("drop_oldest", WhenFull::DropOldest), ("hold_back", WhenFull::HoldBack)];

const PROTOCOLS: [(&str, Protocol); 2] = [("1.0", Protocol::V1), ("2.0", Protocol::V2)];

/// Where derived samples and original requests go.
pub(super) struct Targets {
    pub(super) remote_write: Vec<TargetSpec>,
    pub(super) forward: Vec<TargetSpec>,
}

/// Reads the targets of both lists, which have one set of names. Relative paths of secrets start at `base`.
pub(super) fn read(remote_write: &Place<'_>, forward: &Place<'_>, base: &Path) -> Targets {
    let mut names = Vec::new();
    let remote_write = remote_write.items().into_iter().filter_map(|place| {
        let spec = derived(&place, target(&place, base)?);
        is_unique(&mut names, &place, &spec.name).then_some(spec)
    });
    let remote_write = remote_write.collect();
    let forward = forward.items().into_iter().filter_map(|place| {
        // An original request is passed on whole, whatever its age.
        let spec = TargetSpec { max_sample_age: None, ..target(&place, base)? };
        is_unique(&mut names, &place, &spec.name).then_some(spec)
    });
    Targets { remote_write, forward: forward.collect() }
}

/// Whether nobody has `name` yet: reports it at `place` or remembers it.
fn is_unique(names: &mut Vec<(String, String)>, place: &Place<'_>, name: &str) -> bool {
    let first = names.iter().find(|(known, _)| known == name).map(|(_, first)| first);
    if let Some(first) = first {
        place.get("name").fail(format!("`{name}` is the name of {first}, too; choose another"));
        return false;
    }
    names.push((name.to_owned(), place.path().to_owned()));
    true
}

/// What only derived samples need.
fn derived(place: &Place<'_>, spec: TargetSpec) -> TargetSpec {
    let age = place.get("max_sample_age").read(units::duration);
    let samples = place.get("max_samples_per_send").read(units::positive_count);
    let protocol = place.get("protocol").read(|text| monitors::one_of("version", text, &PROTOCOLS));
    TargetSpec {
        protocol,
        max_sample_age: (!age.is_zero()).then_some(age),
        max_samples_per_send: samples as usize,
        ..spec
    }
}

/// What both kinds of targets have.
fn target(place: &Place<'_>, base: &Path) -> Option<TargetSpec> {
    place.check_keys();
    let (backoff_min, backoff_max) = backoff(place);
    let headers = remote::headers(place, base);
    let timeout = place.get("timeout").read(units::positive_duration);
    let when_full = place.get("when_full").read(|text| monitors::one_of("policy", text, &WHEN_FULL));
    let name = place.get("name").optional(|text| monitors::name_within(text, NAME_CHARS_MAX));
    let example = "http://127.0.0.1:9090/api/v1/write";
    let url = place.get("url").required(|text| remote::url(text, example))?;
    let name = name.unwrap_or_else(|| TargetSpec::name_at(&url));
    Some(TargetSpec { timeout, backoff_min, backoff_max, headers, when_full, ..TargetSpec::new(url, name) })
}

fn backoff(place: &Place<'_>) -> (Duration, Duration) {
    let min = place.get("min_backoff").read(units::positive_duration);
    let max = place.get("max_backoff").read(units::positive_duration);
    if max < min {
        place.get("max_backoff").fail(format!("{max:?} must be at least `min_backoff` of {min:?}"));
    }
    (min, max)
}
