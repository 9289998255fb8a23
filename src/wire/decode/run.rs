//! Label runs that stand in the request and are canonical already.
//!
//! Nearly all are, so that this is the way that counts: it hops from length to length, decides the order of names by
//! their first eight bytes, and looks for bytes beyond ASCII in the whole run at once. About 35 ns for 10 labels.

use std::ops::Range;

use super::Limits;
use super::labels::Origin;
use crate::series::{CLUSTER, METRIC_NAME, REPLICA};
use crate::wire::fields::Span;

/// A canonical run that stands in the request, perhaps with a label `__replica__`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    pub(super) run: Span,
    /// The label `__replica__`, tag and lengths included, and what it says.
    pub(super) replica: Option<(Span, Origin)>,
}

/// One label, cut off a run.
struct Cut<'a> {
    name: Name<'a>,
    value: &'a [u8],
    /// What stands behind it.
    rest: &'a [u8],
}

/// A name, and its first eight bytes as a number: zeros where it is shorter.
#[derive(Clone, Copy)]
struct Name<'a> {
    text: &'a [u8],
    key: u64,
}

/// What all names begin with that mean something here.
const RESERVED: u64 = 0x5f5f << 48;

/// The canonical run that `series`, a message of the request, begins with; `None` where labels are not
/// canonical, have no metric's name or break a limit.
///
/// What it takes, `arrange` would take and leave as it is, but for a label `__replica__`.
pub(super) fn canonical_prefix(request: &[u8], series: Span, limits: &Limits) -> Option<Prefix> {
    let mut rest = series.of(request);
    let mut last = Name::default();
    let (mut count, mut named, mut replica) = (0, false, None);
    while let [0x0a, ..] = rest {
        let label = short_label(rest).or_else(|| any_label(rest))?;
        let (name, value) = (label.name, label.value);
        if name.text.len() > limits.name_bytes_max || value.len() > limits.value_bytes_max {
            return None;
        }
        if !last.precedes(name) {
            return None;
        }
        if name.key & (0xffff << 48) == RESERVED {
            named |= name.text == METRIC_NAME.as_bytes();
            if name.text == REPLICA.as_bytes() {
                let (start, end) = (series.end - rest.len() as u32, series.end - label.rest.len() as u32);
                let origin = Origin { cluster: Span::default(), replica: last_of(end, value) };
                replica = Some((Span { start, end }, origin));
            }
        } else if let Some((_, origin)) = &mut replica
            && name.text == CLUSTER.as_bytes()
        {
            origin.cluster = last_of(series.end - label.rest.len() as u32, value);
        }
        count += 1;
        last = name;
        rest = label.rest;
    }
    let run = Span { end: series.end - rest.len() as u32, ..series };
    let fits = count <= limits.labels_max && run.len() <= limits.label_bytes_max;
    (named && fits && is_text(run.of(request))).then_some(Prefix { run, replica })
}

/// Where `text` stands that ends at `end`.
fn last_of(end: u32, text: &[u8]) -> Span {
    Span { start: end - text.len() as u32, end }
}

impl Prefix {
    /// Closes the gap that the label `__replica__` leaves by moving what stands before it, which is
    /// nearly always the metric's name alone. Returns where the canonical run is then.
    pub(super) fn without_replica(self, request: &mut [u8]) -> Range<usize> {
        let Span { start, end } = self.run;
        let run = start as usize..end as usize;
        let Some((label, _)) = self.replica else { return run };
        let start = run.start + label.len();
        request.copy_within(run.start..label.start as usize, start);
        start..run.end
    }
}

impl Default for Name<'_> {
    /// Precedes every name.
    fn default() -> Self {
        Self { text: &[], key: 0 }
    }
}

impl Name<'_> {
    /// `self < other` by bytes. Where keys differ they decide, since a name sorts before all that go on behind it.
    #[inline]
    fn precedes(self, other: Name<'_>) -> bool {
        self.key < other.key || (self.key == other.key && self.text < other.text)
    }
}

/// Cuts a label off `bytes` whose lengths are one byte each. `None` for others, and near the end of the message.
#[inline]
fn short_label(bytes: &[u8]) -> Option<Cut<'_>> {
    let [_, length @ ..0x80, 0x0a, name_len @ 1..=0x7f, key @ ..] = *bytes.first_chunk::<12>()? else {
        return None;
    };
    let (length, name_len) = (usize::from(length), usize::from(name_len));
    let value_len = length.checked_sub(4 + name_len).filter(|length| *length > 0)?;
    let (label, rest) = bytes.split_at_checked(2 + length)?;
    let (name, value) = label[4..].split_at_checked(name_len)?;
    let [0x12, said, value @ ..] = value else { return None };
    if usize::from(*said) != value_len {
        return None;
    }
    // The bytes behind a name shorter than its key are none of it.
    let key = u64::from_be_bytes(key) & u64::MAX << (64 - 8 * name_len.min(8));
    Some(Cut { name: Name { text: name, key }, value, rest })
}

/// Cuts any label off `bytes`, if it is canonical.
#[cold]
fn any_label(bytes: &[u8]) -> Option<Cut<'_>> {
    let (label, rest) = split_text(bytes.get(1..)?)?;
    let (name, label) = split_text(label.strip_prefix(&[0x0a])?)?;
    let (value, label) = split_text(label.strip_prefix(&[0x12])?)?;
    if name.is_empty() || value.is_empty() || !label.is_empty() {
        return None;
    }
    let mut key = [0; 8];
    let first = name.len().min(8);
    key[..first].copy_from_slice(&name[..first]);
    Some(Cut { name: Name { text: name, key: u64::from_be_bytes(key) }, value, rest })
}

/// Whether all texts of a run are UTF-8.
///
/// Each text stands between ASCII tags and lengths, so a run that is UTF-8 as a whole has good texts. Only
/// lengths of two bytes, which are not UTF-8 behind a tag, need a look at each text.
fn is_text(run: &[u8]) -> bool {
    is_ascii(run) || std::str::from_utf8(run).is_ok() || are_texts(run)
}

/// Whether no byte of `run` has its highest bit set. Without a way out before the end, and so in vectors.
#[inline]
fn is_ascii(run: &[u8]) -> bool {
    let Some(last) = run.last_chunk::<32>() else { return run.is_ascii() };
    let mut seen = *last;
    for block in run.as_chunks::<32>().0 {
        seen.iter_mut().zip(block).for_each(|(seen, byte)| *seen |= byte);
    }
    seen.iter().fold(0, |all, byte| all | byte) < 0x80
}

#[cold]
fn are_texts(run: &[u8]) -> bool {
    let mut rest = run;
    while let Some((label, after)) = rest.get(1..).and_then(split_text) {
        let Some((name, label)) = label.get(1..).and_then(split_text) else { return false };
        let Some((value, _)) = label.get(1..).and_then(split_text) else { return false };
        if std::str::from_utf8(name).is_err() || std::str::from_utf8(value).is_err() {
            return false;
        }
        rest = after;
    }
    true
}

/// Cuts a text behind a length of one or two bytes, the fewest possible, off `bytes`.
#[inline]
pub(super) fn split_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match *bytes {
        [length @ ..0x80, ref rest @ ..] => rest.split_at_checked(usize::from(length)),
        [low, high @ 1..0x80, ref rest @ ..] => {
            rest.split_at_checked(usize::from(low & 0x7f) | usize::from(high) << 7)
        }
        _ => None,
    }
}
