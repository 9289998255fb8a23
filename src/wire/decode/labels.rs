//! Labels of one series: checked, and canonical where they stand or made so.

use std::ops::Range;

use super::{Limits, Refusal};
use crate::series::{CLUSTER, METRIC_NAME, REPLICA, push_label};
use crate::wire::fields::{Span, varint_len};

/// A label as the request has it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct LabelText {
    pub(super) name: Span,
    pub(super) value: Span,
}

/// Which replica a series says it is from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// Value of the label `cluster`, empty where there is none.
    pub(super) cluster: Span,
    /// Value of the label `__replica__`.
    pub(super) replica: Span,
}

/// A canonical run that stands in the request, perhaps with a label `__replica__`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    pub(super) run: Span,
    /// The label `__replica__`, tag and lengths included, and what it says.
    pub(super) replica: Option<(Span, Origin)>,
}

/// The canonical run that `series`, a message of the request, begins with; `None` where labels are not
/// canonical, have no metric's name or break a limit.
///
/// The fast path: what it takes, [`arrange`] would take and leave as it is, but for a label `__replica__`.
/// About 40 ns for 10 labels.
pub(super) fn canonical_prefix(request: &[u8], series: Span, limits: &Limits) -> Option<Prefix> {
    let mut rest = series.of(request);
    let mut previous: &[u8] = &[];
    let (mut count, mut named, mut replica) = (0, false, None);
    while let [0x0a, label @ ..] = rest {
        let (label, after) = split_text(label)?;
        let (name, label) = split_text(label.strip_prefix(&[0x0a])?)?;
        let (value, label) = split_text(label.strip_prefix(&[0x12])?)?;
        let fits = name.len() <= limits.name_bytes_max && value.len() <= limits.value_bytes_max;
        if !fits || value.is_empty() || !label.is_empty() || !precedes(previous, name) {
            return None;
        }
        if name == METRIC_NAME.as_bytes() {
            named = true;
        } else if name == REPLICA.as_bytes() {
            let (start, end) = (series.end - rest.len() as u32, series.end - after.len() as u32);
            let origin = Origin { cluster: Span::default(), replica: last_of(end, value) };
            replica = Some((Span { start, end }, origin));
        } else if let Some((_, origin)) = &mut replica
            && name == CLUSTER.as_bytes()
        {
            origin.cluster = last_of(series.end - after.len() as u32, value);
        }
        count += 1;
        previous = name;
        rest = after;
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

/// Places of the labels that name a replica, in an arranged list of labels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    replica: usize,
    cluster: Option<usize>,
}

impl Places {
    fn find(labels: &[LabelText], request: &[u8]) -> Option<Self> {
        let place = |name: &str| labels.iter().position(|label| label.name.of(request) == name.as_bytes());
        place(REPLICA).map(|replica| Self { replica, cluster: place(CLUSTER) })
    }

    /// Takes the label `__replica__` out of `labels`.
    pub(super) fn take(self, labels: &mut Vec<LabelText>) -> Origin {
        let cluster = self.cluster.map_or(Span::default(), |place| labels[place].value);
        Origin { cluster, replica: labels.remove(self.replica).value }
    }
}

/// Whether a label of these lengths is within its limits.
pub(super) fn check_lengths(name: usize, value: usize, limits: &Limits) -> Result<(), Refusal> {
    if name == 0 {
        Err(Refusal::EmptyLabelName)
    } else if name > limits.name_bytes_max {
        Err(Refusal::LabelNameTooLong)
    } else if value > limits.value_bytes_max {
        Err(Refusal::LabelValueTooLong)
    } else {
        Ok(())
    }
}

/// What [`arrange`] did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arranged {
    /// Bytes of the canonical run.
    pub(super) length: usize,
    /// Whether labels were in order and none was empty.
    pub(super) is_as_sent: bool,
    /// Where in the order the labels stood that name a replica.
    pub(super) places: Option<Places>,
    /// What they say.
    pub(super) origin: Option<Origin>,
}

/// Sorts `labels`, drops the empty ones and `__replica__`, and measures their canonical run.
///
/// Duplicates are refused before empty ones are dropped, as Prometheus does.
pub(super) fn arrange(
    labels: &mut Vec<LabelText>,
    request: &[u8],
    limits: &Limits,
) -> Result<Arranged, Refusal> {
    let ascending = |pair: &[LabelText]| precedes(pair[0].name.of(request), pair[1].name.of(request));
    let is_sorted = labels.windows(2).all(ascending);
    if !is_sorted {
        labels.sort_unstable_by_key(|label| label.name.of(request));
        if !labels.windows(2).all(ascending) {
            return Err(Refusal::DuplicateLabel);
        }
    }
    let sent = labels.len();
    labels.retain(|label| label.value.len() > 0);
    if !labels.iter().any(|label| label.name.of(request) == METRIC_NAME.as_bytes()) {
        return Err(Refusal::NoMetricName);
    }
    let is_as_sent = is_sorted && labels.len() == sent;
    let places = Places::find(labels, request);
    let origin = places.map(|places| places.take(labels));
    let length = run_length(labels, limits)?;
    Ok(Arranged { length, is_as_sent, places, origin })
}

/// Bytes of the canonical run of `labels`, which are arranged.
pub(super) fn run_length(labels: &[LabelText], limits: &Limits) -> Result<usize, Refusal> {
    let length = labels.iter().map(|label| encoded_len(label.name.len(), label.value.len())).sum();
    if length > limits.label_bytes_max {
        return Err(Refusal::LabelsTooLong);
    }
    Ok(length)
}

/// Appends the run of `labels` that were arranged, `length` bytes.
pub(super) fn push_run(run: &mut Vec<u8>, labels: &[LabelText], request: &[u8], length: usize) {
    run.reserve(length + STRIDE);
    for label in labels {
        let (name, value) = (label.name, label.value);
        let inner = name.len() + value.len() + 4;
        if inner < 0x80 {
            run.extend_from_slice(&[0x0a, inner as u8, 0x0a, name.len() as u8]);
            push_text(run, name, request);
            run.extend_from_slice(&[0x12, value.len() as u8]);
            push_text(run, value, request);
        } else {
            push_label(run, name.of(request), value.of(request));
        }
    }
}

/// Copies so many bytes where a text is short: with a length known to the compiler, that is two moves and no
/// call, and most names and values are that short.
const STRIDE: usize = 32;

#[inline]
fn push_text(run: &mut Vec<u8>, text: Span, request: &[u8]) {
    match request.get(text.start as usize..).and_then(<[u8]>::first_chunk::<STRIDE>) {
        Some(chunk) if text.len() <= STRIDE => {
            let end = run.len() + text.len();
            run.extend_from_slice(chunk);
            run.truncate(end);
        }
        _ => run.extend_from_slice(text.of(request)),
    }
}

/// The first labels in words, however odd their bytes. Long texts and long lists are cut.
pub(super) fn describe(labels: &[LabelText], request: &[u8]) -> String {
    const LABELS_MAX: usize = 8;
    const TEXT_BYTES_MAX: usize = 64;
    let clip = |span: Span| {
        let text = span.of(request);
        String::from_utf8_lossy(&text[..text.len().min(TEXT_BYTES_MAX)]).into_owned()
    };
    let shown: Vec<_> = labels
        .iter()
        .take(LABELS_MAX)
        .map(|label| format!("{}={:?}", clip(label.name), clip(label.value)))
        .collect();
    let more = if labels.len() > LABELS_MAX { ", …" } else { "" };
    format!("{{{}{more}}}", shown.join(", "))
}

/// `left < right`, decided by the first byte where that is enough.
fn precedes(left: &[u8], right: &[u8]) -> bool {
    match (left.first(), right.first()) {
        (Some(left), Some(right)) if left != right => left < right,
        _ => left < right,
    }
}

/// Whether all texts of a run are UTF-8.
///
/// Each text stands between ASCII tags and lengths, so a run that is UTF-8 as a whole has good texts. Only
/// lengths of two bytes, which are not UTF-8 behind a tag, need a look at each text.
fn is_text(run: &[u8]) -> bool {
    if run.is_ascii() || std::str::from_utf8(run).is_ok() {
        return true;
    }
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
fn split_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match *bytes {
        [length @ ..0x80, ref rest @ ..] => rest.split_at_checked(usize::from(length)),
        [low, high @ 1..0x80, ref rest @ ..] => {
            rest.split_at_checked(usize::from(low & 0x7f) | usize::from(high) << 7)
        }
        _ => None,
    }
}

fn encoded_len(name: usize, value: usize) -> usize {
    // Nearly all are so short that each of the three lengths takes one byte.
    let short = name + value + 4;
    if short < 0x80 {
        return 2 + short;
    }
    let label = 2 + varint_len(name as u64) + name + varint_len(value as u64) + value;
    1 + varint_len(label as u64) + label
}
