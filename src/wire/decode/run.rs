//! Label runs that stand in the request and are canonical already.
//!
//! Nearly all are, so that this is the way that counts: it hops from length to length, decides the order of names by
//! their first eight bytes, and looks for bytes beyond ASCII in the whole run at once. About 31 instructions a label.

use std::ops::Range;

use super::Limits;
use super::labels::Origin;
use crate::series::{CLUSTER, METRIC_NAME, REPLICA};
use crate::wire::fields::Span;

/// Where a label `__replica__` stands, tag and lengths included, and what it says.
type Replica = (Span, Origin);

/// A canonical run that stands in the request, perhaps with a label `__replica__`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    pub(super) run: Span,
    pub(super) replica: Option<Replica>,
}

/// A walk along the labels that a message begins with.
#[derive(Clone, Copy)]
struct Walk<'a> {
    message: &'a [u8],
    /// The message with all that stands behind it in the request.
    ahead: &'a [u8],
    /// Where the next label begins.
    at: usize,
    /// Where the last one does.
    last: usize,
    /// Key of its name.
    key: u64,
    count: usize,
}

/// How far hops went.
struct Hops {
    /// Behind the last label hopped over, which may be behind the message.
    at: usize,
    /// Where it begins.
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

/// Bytes of a text at most that is hopped over.
const SHORT: usize = 0x7f;

/// How far labels begin from each other that are hopped over in one go. Of a window as long as this needs, the compiler
/// knows that no look at it is beyond its end.
const REACH: usize = 1024;

/// Bytes that a hop looks at: what it reaches, and as far from there as tag and length of a value can be.
const WINDOW: usize = 4 + (2 * REACH - 1) + 2;

/// Key of the metric's name, which is all of it.
const METRIC_NAME_KEY: u64 = u64::from_be_bytes(*b"__name__");

/// Keys of names up to this one are not hopped over: names that mean something begin with two underscores.
const RESERVED: u64 = 0x5f5f_ffff_ffff_ffff;

/// For each length of a name, as far as one byte goes, which bytes of its key are its own; those behind it are none of it.
static KEY_MASKS: [u64; 256] = {
    let mut masks = [u64::MAX; 256];
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
    let (message, ahead) = (series.of(request), &request[series.start as usize..]);
    let mut walk = Walk { message, ahead, at: 0, last: 0, key: 0, count: 0 };
    let named = may_hop(limits) && walk.hop()?;
    let (walk, named, replica) = match walk.message.get(walk.at) {
        Some(0x0a) => walk.step_on(named, series.start, limits)?,
        _ => (walk, named, None),
    };
    let fits = walk.count <= limits.labels_max && walk.at <= limits.label_bytes_max;
    let run = Span { end: series.start + walk.at as u32, ..series };
    (named && fits && is_text(walk.passed())).then_some(Prefix { run, replica })
}

/// Whether the first `length` bytes of `ahead` are the metric's name and labels that can all be hopped over: canonical,
/// ASCII, within the limits, and none that names a replica. [`canonical_prefix`] finds the same of them.
#[inline(never)]
pub(super) fn is_plain_run(ahead: &[u8], length: usize, limits: &Limits) -> bool {
    let mut padded = None;
    let window = window(ahead, &mut padded);
    let may_hop = may_hop(limits) && length <= REACH.min(limits.label_bytes_max);
    if !may_hop || !begins_with_metric_name(window) {
        return false;
    }
    let (mut at, mut floor, mut count) = (2 + usize::from(window[1]), RESERVED, 1);
    while at < length {
        let Some((key, label)) = short_label(window, at).filter(|(key, _)| *key > floor) else {
            return false;
        };
        at += label;
        floor = key;
        count += 1;
    }
    at == length && count <= limits.labels_max && is_ascii(&window[..length])
}

/// Whether what is hopped over is within the limits of a label.
fn may_hop(limits: &Limits) -> bool {
    limits.name_bytes_max >= SHORT && limits.value_bytes_max >= SHORT
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
    /// Hops over the metric's name, if that is next, and then over canonical labels, as long as their lengths are one
    /// byte each, their names are told apart by their keys, and are none of those that mean something here. Says
    /// whether the metric's name was among them; `None` where a label goes on behind the message.
    fn hop(&mut self) -> Option<bool> {
        let ahead = self.ahead.get(self.at..).unwrap_or_default();
        let mut padded = None;
        let window = window(ahead, &mut padded);
        let left = self.message.len() - self.at;
        let first = 2 + usize::from(window[1]);
        let named = self.key < METRIC_NAME_KEY && first <= left && begins_with_metric_name(window);
        let first = if named { first } else { 0 };
        let hops = hop(window, (first, left.min(REACH)), self.key.max(RESERVED));
        if hops.at > left {
            return None;
        }
        if hops.count > 0 {
            (self.last, self.key) = (self.at + hops.last, hops.key);
        } else if named {
            (self.last, self.key) = (self.at, METRIC_NAME_KEY);
        }
        self.at += hops.at;
        self.count += hops.count + usize::from(named);
        Some(named)
    }

    /// Goes on where a label cannot be hopped over, with a message that stands at `start` of the request. Says whether
    /// the metric's name is among the labels, or was, and where a replica's is.
    #[inline(never)]
    fn step_on(
        mut self,
        mut named: bool,
        start: u32,
        limits: &Limits,
    ) -> Option<(Self, bool, Option<Replica>)> {
        let mut replica = None;
        while let Some(0x0a) = self.message.get(self.at) {
            let at = start + self.at as u32;
            let (name, value) = self.step()?;
            let end = start + self.at as u32;
            if name.len() > limits.name_bytes_max || value.len() > limits.value_bytes_max {
                return None;
            }
            named |= name == METRIC_NAME.as_bytes();
            if name == REPLICA.as_bytes() {
                let origin = Origin { cluster: Span::default(), replica: last_of(end, value) };
                replica = Some((Span { start: at, end }, origin));
            } else if let Some((_, origin)) = &mut replica
                && name == CLUSTER.as_bytes()
            {
                origin.cluster = last_of(end, value);
            }
            if replica.is_none() && may_hop(limits) {
                named |= self.hop()?;
            }
        }
        Some((self, named, replica))
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

/// The window that `ahead` begins with; near the end of the request what is left and zeros, which are no labels.
#[inline]
fn window<'a>(ahead: &'a [u8], padded: &'a mut Option<[u8; WINDOW]>) -> &'a [u8; WINDOW] {
    match ahead.first_chunk() {
        Some(window) => window,
        None => padded.insert(pad(ahead)),
    }
}

#[cold]
fn pad(ahead: &[u8]) -> [u8; WINDOW] {
    let mut window = [0; WINDOW];
    window[..ahead.len()].copy_from_slice(ahead);
    window
}

/// Whether a canonical label that can be hopped over begins `window`, and is the metric's name.
#[inline]
fn begins_with_metric_name(window: &[u8; WINDOW]) -> bool {
    // Longer names may begin like that, too.
    window[3] == METRIC_NAME.len() as u8 && matches!(short_label(window, 0), Some((METRIC_NAME_KEY, _)))
}

/// Hops over canonical labels from `at` on as long as they begin before `end`, their lengths are one byte each, and the
/// keys of their names ascend from `floor`. Not in line, so that all of it is in registers.
#[inline(never)]
fn hop(window: &[u8; WINDOW], (mut at, end): (usize, usize), floor: u64) -> Hops {
    let (mut last, mut key, mut count) = (at, floor, 0);
    while at < end
        && let Some((own, length)) = short_label(window, at)
        && own > key
    {
        (last, at) = (at, at + length);
        key = own;
        count += 1;
    }
    Hops { at, last, key, count }
}

/// Key of the name of the canonical label that begins at `at`, up to where a hop reaches, and the label's length, which
/// may be more than the message has. `None` where a length is not one byte.
#[inline(always)]
fn short_label(window: &[u8; WINDOW], at: usize) -> Option<(u64, usize)> {
    let at = at & (REACH - 1);
    let head = u32::from_le_bytes(*window[at..].first_chunk()?);
    if head & 0x80ff_80ff != 0x000a_000a {
        return None;
    }
    let (length, name_len) = (u32::from((head >> 8) as u8), head >> 24);
    let value = u16::from_le_bytes(*window[4..][at + name_len as usize..].first_chunk()?);
    let expected = (length.wrapping_sub(name_len) << 8).wrapping_sub(0x400 - 0x12);
    if u32::from(value) != expected || value == 0x12 {
        return None;
    }
    let key = u64::from_be_bytes(*window[4..][at..].first_chunk()?);
    Some((key & KEY_MASKS[name_len as usize], 2 + length as usize))
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

/// Whether no byte of `run` has its highest bit set. Without a way out before the end, and so in vectors; not in line,
/// so that these are kept in registers.
#[inline(never)]
fn is_ascii(run: &[u8]) -> bool {
    let Some(last) = run.last_chunk::<64>() else { return run.is_ascii() };
    let mut seen = *last;
    for block in run.as_chunks::<64>().0 {
        for (at, seen) in seen.iter_mut().enumerate() {
            *seen |= block[at];
        }
    }
    seen.iter().fold(0, |all, byte| all | byte) < 0x80
}

/// Where the values of the labels of a canonical run stand in it.
pub(super) fn value_spans(run: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut rest = run;
    std::iter::from_fn(move || {
        let label = cut(rest)?;
        rest = label.rest;
        let end = run.len() - rest.len();
        Some(end - label.value.len()..end)
    })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::series::push_label;

    /// Labels, and something behind them for which they are not near the end.
    fn message(labels: &[(Vec<u8>, Vec<u8>)], behind: usize) -> Vec<u8> {
        let mut message = Vec::new();
        labels.iter().for_each(|(name, value)| push_label(&mut message, name, value));
        message.resize(message.len() + behind, 0x12);
        message
    }

    fn prefix(message: &[u8], limits: &Limits) -> Option<(Span, Option<Span>)> {
        let found = |request: &[u8]| {
            let found = canonical_prefix(request, Span { start: 0, end: message.len() as u32 }, limits)?;
            Some((found.run, found.replica.map(|(label, _)| label)))
        };
        // What stands behind it decides how far hops go, and nothing else.
        let alone = found(message);
        for behind in [&[0; 200][..], &[b"\x0a\x05\x0a\x01z\x12\x01", message, message, &[0; 200]].concat()] {
            let followed = found(&[message, behind].concat());
            assert_eq!(format!("{alone:?}"), format!("{followed:?}"));
        }
        alone
    }

    /// Bytes of the run that `names` begin with, each with the value `x`, if it is canonical.
    fn check(names: &[&[u8]], canonical: bool) {
        let labels: Vec<_> = names.iter().map(|name| (name.to_vec(), b"x".to_vec())).collect();
        for behind in [0, 3, 18] {
            let message = message(&labels, behind);
            let run = prefix(&message, &Limits::default()).map(|(run, _)| run.len() + behind);
            assert_eq!(run, canonical.then_some(message.len()), "{names:?}");
        }
    }

    #[test]
    fn names_that_begin_alike_are_told_apart_by_the_rest() {
        check(&[b"__name__", b"container", b"container_id", b"container_name"], true);
        check(&[b"__name__", b"container_id", b"container"], false);
        check(&[b"__name__", b"container_a", b"container_a"], false);
        check(&[b"__name__", b"a", b"a\0", b"a\0\0", b"ab"], true);
        check(&[b"__name__", b"a\0", b"a"], false);
        check(&[b"__name__", b"containe", b"containe\0"], true);
    }

    #[test]
    fn only_the_metrics_own_name_is_one() {
        check(&[b"__name__"], true);
        check(&[b"A", b"__name__", b"a"], true);
        check(&[b"__meta", b"__name__", b"__name__x", b"__z"], true);
        check(&[b"__name__", b"__name__"], false);
        check(&[b"__name__x", b"a"], false);
        check(&[b"__name_", b"a"], false);
        check(&[b"__name__x", b"__name__"], false);
        check(&[b""], false);
        check(&[b"", b"__name__"], false);
    }

    #[test]
    fn a_plain_run_is_the_metrics_name_and_ascii_and_ends_where_it_is_to() {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let labels = |labels: &[(&str, &str)]| {
            let labels: Vec<_> = labels.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
            message(&labels, 0)
        };
        let up = ("__name__", "up");
        let long = "v".repeat(100);
        for (run, plain) in [
            (labels(&[up]), true),
            (labels(&[up, ("a", "1"), ("b", &long)]), true),
            (labels(&[("a", "1")]), false),
            (labels(&[("A", "1"), up]), false),
            (labels(&[up, ("a", "é")]), false),
            (labels(&[up, (REPLICA, "one")]), false),
            (labels(&[up, ("a", &long), ("a", "1")]), false),
            (labels(&[up, ("a", "")]), false),
            (vec![], false),
        ] {
            for behind in [0, 18, WINDOW] {
                let ahead = [&run[..], &vec![0x12; behind]].concat();
                for length in 0..=ahead.len() {
                    let found = is_plain_run(&ahead, length, &Limits::default());
                    // What ends sooner, with a label, is a run as well.
                    let expected = plain && length == run.len();
                    assert!(found == expected || found && length < run.len(), "{run:?} {length}");
                }
            }
        }
        let run = labels(&[up, ("a", "1"), ("b", "2")]);
        let with = |labels_max, label_bytes_max| Limits { labels_max, label_bytes_max, ..Limits::default() };
        for (limits, plain) in
            [(with(3, run.len()), true), (with(2, run.len()), false), (with(3, run.len() - 1), false)]
        {
            assert_eq!(is_plain_run(&run, run.len(), &limits), plain, "{limits:?}");
        }
    }

    #[test]
    fn limits_are_kept_on_every_way() {
        let labels = |name, value| {
            let long = (vec![b'n'; name], vec![b'v'; value]);
            message(&[(b"__name__".to_vec(), b"up".to_vec()), long], 18)
        };
        for (name, value) in [(1, 1), (100, 5), (100, 30), (126, 126), (127, 1), (1, 127), (128, 128)] {
            for (name_max, value_max) in [(name, value), (name - 1, value), (name, value - 1), (200, 200)] {
                let limits = Limits {
                    name_bytes_max: name_max.max(8),
                    value_bytes_max: value_max.max(2),
                    ..Limits::default()
                };
                let fits = name <= limits.name_bytes_max && value <= limits.value_bytes_max;
                assert_eq!(
                    prefix(&labels(name, value), &limits).is_some(),
                    fits,
                    "{name} {value} {limits:?}"
                );
            }
        }
    }

    proptest! {
        /// What is hopped over is what steps would take, and what they would not take is not: damaged or not.
        #[test]
        fn hops_and_steps_find_the_same(
            mut labels in prop::collection::vec(("(__name__|__replica__|cluster|[_a\u{0}]{0,10}|[a-c]{7,10})", "[xé]{0,40}"), 0..8),
            sorted in any::<bool>(),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            behind in 0_usize..20,
        ) {
            if sorted {
                labels.sort();
            }
            let labels: Vec<_> = labels.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect();
            let mut message = message(&labels, behind);
            if let Some((at, byte)) = damage.filter(|_| !message.is_empty()) {
                let at = at.index(message.len());
                message[at] = byte;
            }
            let longest = Limits { name_bytes_max: SHORT - 1, ..Limits::default() };
            let stepped = prefix(&message, &longest);
            prop_assert_eq!(format!("{stepped:?}"), format!("{:?}", prefix(&message, &Limits::default())));
            if damage.is_none() {
                let ascend = labels.is_sorted_by(|left, right| left.0 < right.0);
                let full = labels.iter().all(|(name, value)| !name.is_empty() && !value.is_empty());
                let named = labels.iter().any(|(name, _)| name == METRIC_NAME.as_bytes());
                prop_assert_eq!(stepped.is_some(), ascend && full && named);
            }
            let behind = [&message[..], &[0x12; WINDOW]].concat();
            for ahead in [&message, &behind] {
                for length in 0..=message.len() {
                    if is_plain_run(ahead, length, &Limits::default()) {
                        let alone = prefix(&message[..length], &Limits::default());
                        prop_assert_eq!(alone.map(|(run, replica)| (run.len(), replica.is_none())), Some((length, true)));
                    }
                }
            }
        }
    }
}
