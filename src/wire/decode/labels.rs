//! Labels of one series that do not stand in the request as a canonical run, made canonical.

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

fn encoded_len(name: usize, value: usize) -> usize {
    // Nearly all are so short that each of the three lengths takes one byte.
    let short = name + value + 4;
    if short < 0x80 {
        return 2 + short;
    }
    let label = 2 + varint_len(name as u64) + name + varint_len(value as u64) + value;
    1 + varint_len(label as u64) + label
}
