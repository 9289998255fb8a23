//! Label runs that stand in the request and are canonical already.
//!
//! Nearly all are, so that this is the way that counts: it hops from length to length, decides the order of names by
//! their first eight bytes, and looks for bytes beyond ASCII in the whole run at once. About 25 ns for 10 labels.

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

/// A walk along the labels that a message begins with.
#[derive(Clone, Copy)]
struct Walk<'a> {
    message: &'a [u8],
    /// Where the next label begins.
    at: usize,
    /// Where the last one does.
    last: usize,
    /// Key of its name.
    key: u64,
    count: usize,
}

/// One label, cut off a run.
struct Cut<'a> {
    name: &'a [u8],
    value: &'a [u8],
    /// What stands behind it.
    rest: &'a [u8],
}

/// Bytes of a text at most that [`Walk::hop`] hops over.
const SHORT: usize = 0x7f;

/// Keys of names up to this one are not hopped over: names that mean something begin with two underscores.
const RESERVED: u64 = 0x5f5f_ffff_ffff_ffff;

const METRIC_NAME_KEY: u64 = u64::from_be_bytes(*b"__name__");

/// For each length of a name, which bytes of its key are its own; those behind it are none of it.
const KEY_MASKS: [u64; 9] = {
    let mut masks = [u64::MAX; 9];
    let mut length = 0;
    while length < 8 {
        masks[length] = !(u64::MAX >> (8 * length));
        length += 1;
    }
    masks
};

/// The canonical run that `series`, a message of the request, begins with; `None` where labels are not
/// canonical, have no metric's name or break a limit.
///
/// What it takes, `arrange` would take and leave as it is, but for a label `__replica__`.
pub(super) fn canonical_prefix(request: &[u8], series: Span, limits: &Limits) -> Option<Prefix> {
    let mut walk = Walk { message: series.of(request), at: 0, last: 0, key: 0, count: 0 };
    let (mut named, mut replica) = (false, None);
    let may_hop = limits.name_bytes_max >= SHORT && limits.value_bytes_max >= SHORT;
    loop {
        if may_hop && replica.is_none() {
            named |= walk.hop();
        }
        let Some(0x0a) = walk.message.get(walk.at) else { break };
        let start = series.start + walk.at as u32;
        let (name, value) = walk.step()?;
        let end = series.start + walk.at as u32;
        if name.len() > limits.name_bytes_max || value.len() > limits.value_bytes_max {
            return None;
        }
        named |= name == METRIC_NAME.as_bytes();
        if name == REPLICA.as_bytes() {
            let origin = Origin { cluster: Span::default(), replica: last_of(end, value) };
            replica = Some((Span { start, end }, origin));
        } else if let Some((_, origin)) = &mut replica
            && name == CLUSTER.as_bytes()
        {
            origin.cluster = last_of(end, value);
        }
    }
    let fits = walk.count <= limits.labels_max && walk.at <= limits.label_bytes_max;
    let run = Span { end: series.start + walk.at as u32, ..series };
    (named && fits && is_text(walk.passed())).then_some(Prefix { run, replica })
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

impl<'a> Walk<'a> {
    /// Hops over canonical labels, as long as their lengths are one byte each, their names are told apart by their
    /// keys, and none but the metric's name is one of those that mean something here. Says whether that was among them.
    #[inline]
    fn hop(&mut self) -> bool {
        let mut named = false;
        while let Some((key, length)) = short_label(self.message, self.at) {
            if key <= self.key.max(RESERVED) {
                // A name of nine bytes may begin like that, too.
                if key != METRIC_NAME_KEY || self.message[self.at + 3] != 8 || named || self.key >= key {
                    break;
                }
                named = true;
            }
            self.last = self.at;
            self.at += length;
            self.key = key;
            self.count += 1;
        }
        named
    }

    /// Takes any label, if it is canonical: name and value.
    fn step(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let (_, rest) = self.message.split_at_checked(self.at)?;
        let Cut { name, value, rest } = cut(rest)?;
        let key = key_of(name);
        // Where keys differ they decide, since a name sorts before all that go on behind it.
        let ascends = self.count == 0
            || key > self.key
            || self.message.get(self.last..).and_then(cut).is_some_and(|last| last.name < name);
        (self.last, self.at) = (self.at, self.message.len() - rest.len());
        self.key = key;
        self.count += 1;
        ascends.then_some((name, value))
    }

    fn passed(&self) -> &'a [u8] {
        self.message.get(..self.at).unwrap_or_default()
    }
}

/// The first eight bytes of a name as a number: zeros where it is shorter.
fn key_of(name: &[u8]) -> u64 {
    let mut key = [0; 8];
    let first = name.len().min(8);
    key[..first].copy_from_slice(&name[..first]);
    u64::from_be_bytes(key)
}

/// Key of the name of the canonical label that stands `at` in the message, and the label's length. `None` where a length
/// is not one byte, and near the end of the message.
#[inline]
fn short_label(message: &[u8], at: usize) -> Option<(u64, usize)> {
    let bytes = message.get(at..)?;
    let chunk = bytes.first_chunk::<12>()?;
    let head = u32::from_le_bytes(*chunk.first_chunk()?);
    let key = u64::from_be_bytes(*chunk.last_chunk()?);
    let length = 2 + usize::from(chunk[1]);
    let name_len = (head >> 24) as usize;
    // Tag and length of the value, with its first byte at least behind them.
    let value = bytes.get(..length)?.get(4 + name_len..7 + name_len)?.first_chunk()?;
    let expected = 0x12 | (length - 6).wrapping_sub(name_len) << 8;
    if head & 0x80ff_80ff != 0x000a_000a || usize::from(u16::from_le_bytes(*value)) != expected {
        return None;
    }
    Some((key & KEY_MASKS[name_len.min(8)], length))
}

/// Cuts the canonical label off that `bytes` begin with.
fn cut(bytes: &[u8]) -> Option<Cut<'_>> {
    let (label, rest) = split_text(bytes.strip_prefix(&[0x0a])?)?;
    let (name, label) = split_text(label.strip_prefix(&[0x0a])?)?;
    let (value, label) = split_text(label.strip_prefix(&[0x12])?)?;
    let is_one = !name.is_empty() && !value.is_empty() && label.is_empty();
    is_one.then_some(Cut { name, value, rest })
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
    while let Some(Cut { name, value, rest: after }) = cut(rest) {
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
