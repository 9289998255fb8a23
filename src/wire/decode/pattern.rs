//! What the labels of a series have in common with those of one before: all but the bytes of values.
//!
//! Where series are alike, one comparison says as much as a walk from label to label, in a third of the time. Where they
//! are not, making patterns costs more than it saves, so that a request whose series are not alike goes without.

use crate::wire::fields::Span;

/// Bytes that are compared at once.
const BLOCK: usize = 16;

/// Bytes of a run that patterns are made of, and of what stands behind it. Longer ones are walked.
const ROOM: usize = 512;

/// How many patterns are kept, each for messages of other lengths: the series of a histogram alternate among a few.
const SLOTS: usize = 8;

/// How many series must be found by their patterns to pay for making one, and how many are paid for at first.
const PRICE: u32 = 4;
const LOAN: u32 = 4 * PRICE;

/// Tag of what stands behind the labels: a sample.
const SAMPLE_TAG: u8 = 0x12;

/// Patterns of a request.
#[derive(Debug)]
pub(super) struct Patterns {
    slots: [Pattern; SLOTS],
    /// How many series were found, less what was paid. Once it is 0, nothing is looked for any more.
    credit: u32,
}

/// A canonical run of labels in ASCII and the tag behind it, but for the bytes of values.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    /// Bytes of the message that had the run; 0 where there is no pattern yet.
    message: usize,
    /// Bytes of the run.
    run: usize,
    /// Bytes of the last message here that had no pattern; 0 where one was found since.
    seen: usize,
    /// Which bits are given: all of what tells labels apart, the highest one of values, none behind the tag.
    given: Bytes,
    /// What they are; zeros where they are not given.
    bits: Bytes,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
struct Bytes([u8; ROOM]);

impl Default for Patterns {
    fn default() -> Self {
        let bytes = Bytes([0; ROOM]);
        Self {
            slots: [Pattern { message: 0, run: 0, seen: 0, given: bytes, bits: bytes }; SLOTS],
            credit: LOAN,
        }
    }
}

impl Patterns {
    /// The canonical run that `message` begins with, where a series before had one that differs in nothing but the
    /// bytes of values: then names, order and lengths were found good there.
    #[inline]
    pub(super) fn run_of(&mut self, request: &[u8], message: Span) -> Option<Span> {
        let pattern = &mut self.slots[message.len() % SLOTS];
        if self.credit == 0
            || pattern.message != message.len()
            || !pattern.is_of(&request[message.start as usize..])
        {
            return None;
        }
        self.credit += 1;
        pattern.seen = 0;
        Some(Span { start: message.start, end: message.start + pattern.run as u32 })
    }

    /// Remembers what `run`, the canonical one that `message` begins with, has in common with others, if messages of
    /// such a length come again and patterns pay.
    #[inline]
    pub(super) fn see(&mut self, request: &[u8], message: Span, run: Span) {
        let pattern = &mut self.slots[message.len() % SLOTS];
        if self.credit > 0 && std::mem::replace(&mut pattern.seen, message.len()) == message.len() {
            self.credit = self.credit.saturating_sub(PRICE);
            pattern.learn(&request[message.start as usize..], run.len(), message.len());
        }
    }
}

impl Pattern {
    /// Whether the series that `ahead` begins with has this pattern.
    #[inline]
    fn is_of(&self, ahead: &[u8]) -> bool {
        let count = self.run / BLOCK + 1;
        let blocks = |bytes| <[u8]>::as_chunks::<BLOCK>(bytes).0.get(..count);
        let (Some(given), Some(bits), Some(ahead)) =
            (blocks(&self.given.0), blocks(&self.bits.0), blocks(ahead))
        else {
            return false;
        };
        // Without a way out before the end, and so in vectors.
        let mut differs = [0; BLOCK];
        for ((given, bits), bytes) in given.iter().zip(bits).zip(ahead) {
            for place in 0..BLOCK {
                differs[place] |= (bytes[place] & given[place]) ^ bits[place];
            }
        }
        differs == [0; BLOCK]
    }

    /// Becomes the pattern of the run of so many bytes that `ahead` begins with, in a message of so many. None, where it
    /// is too long or not in ASCII, or where no sample comes behind it.
    #[cold]
    fn learn(&mut self, ahead: &[u8], run: usize, message: usize) {
        (self.message, self.run) = (0, run);
        let is_plain = ahead.get(..run).is_some_and(<[u8]>::is_ascii) && ahead.get(run) == Some(&SAMPLE_TAG);
        if is_plain && run + 2 * BLOCK <= ROOM && self.fill(ahead).is_some() {
            self.message = message;
        }
    }

    /// Fills it from front to back in whole blocks, whose ends what follows overwrites. `None` near the end of a request.
    fn fill(&mut self, ahead: &[u8]) -> Option<()> {
        let mut at = 0;
        while at < self.run {
            let &[_, length, _, name] = ahead.get(at..)?.first_chunk()?;
            let (value, end) = (at + 6 + usize::from(name), at + 2 + usize::from(length));
            for at in (at..value).step_by(BLOCK) {
                self.put(at, [0xff; BLOCK], *ahead.get(at..)?.first_chunk()?)?;
            }
            for at in (value..end).step_by(BLOCK) {
                self.put(at, [0x80; BLOCK], [0; BLOCK])?;
            }
            at = end;
        }
        self.put(self.run, [0; BLOCK], [0; BLOCK])?;
        (self.given.0[self.run], self.bits.0[self.run]) = (0xff, SAMPLE_TAG);
        Some(())
    }

    fn put(&mut self, at: usize, given: [u8; BLOCK], bits: [u8; BLOCK]) -> Option<()> {
        *self.given.0.get_mut(at..)?.first_chunk_mut()? = given;
        *self.bits.0.get_mut(at..)?.first_chunk_mut()? = bits;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::series::push_label;
    use crate::wire::decode::Limits;
    use crate::wire::decode::run::canonical_prefix;

    /// Looks for the runs of `messages` in one request as the decoder does, and says how many patterns found. What they
    /// find is what a walk finds.
    #[track_caller]
    fn check(messages: &[Vec<u8>]) -> usize {
        let (mut patterns, request, mut found, mut end) = (Patterns::default(), messages.concat(), 0, 0);
        for message in messages {
            let start = end;
            end += message.len() as u32;
            let message = Span { start, end };
            let walked = canonical_prefix(&request, message, &Limits::default());
            match patterns.run_of(&request, message) {
                Some(run) => {
                    found += 1;
                    let walked = walked.filter(|prefix| prefix.replica.is_none()).expect("a walk finds it");
                    assert_eq!((walked.run.start, walked.run.end), (run.start, run.end));
                }
                None => {
                    walked
                        .filter(|prefix| prefix.replica.is_none())
                        .into_iter()
                        .for_each(|prefix| patterns.see(&request, message, prefix.run));
                }
            }
        }
        found
    }

    /// A message with labels and a sample of no particular kind.
    fn message(labels: &[(&str, &str)]) -> Vec<u8> {
        let mut message = Vec::new();
        labels.iter().for_each(|(name, value)| push_label(&mut message, name.as_bytes(), value.as_bytes()));
        message.extend_from_slice(b"\x12\x10\x09sixteen or so.");
        message
    }

    fn numbered(number: usize) -> Vec<u8> {
        message(&[("__name__", "up"), ("instance", &format!("10.0.0.{:03}:9100", number)), ("job", "node")])
    }

    #[test]
    fn series_that_differ_in_values_are_found_from_the_third_one_on() {
        assert_eq!(check(&(0..100).map(numbered).collect::<Vec<_>>()), 98);
    }

    #[test]
    fn what_differs_in_more_than_values_in_ascii_is_not_found() {
        let same = |index: usize, byte: u8| {
            let mut last = numbered(7);
            last[index] ^= byte;
            check(&[numbered(1), numbered(2), numbered(3), last, numbered(4), numbered(5)])
        };
        let whole = same(0, 0);
        let message = numbered(7);
        let ends_at = message.len() - b"\x12\x10\x09sixteen or so.".len();
        let values = [b"up".as_slice(), b"10.0.0.007:9100", b"node"];
        let is_value = |index| {
            values.iter().any(|value| {
                let start = message.windows(value.len()).position(|window| window == *value).unwrap();
                (start..start + value.len()).contains(&index)
            })
        };
        for index in 0..=ends_at {
            assert_eq!(same(index, 0x01), whole - usize::from(!is_value(index)), "byte {index}");
            assert_eq!(same(index, 0x80), whole - 1, "byte {index}");
        }
    }

    #[test]
    fn what_does_not_pay_is_given_up() {
        let unlike = (0..40).map(|number| message(&[("__name__", "a"), (&format!("n{number:04}"), "x")]));
        let alike = (0..40).map(numbered);
        assert_eq!(check(&unlike.chain(alike).collect::<Vec<_>>()), 0);
    }

    #[test]
    fn long_runs_are_walked() {
        for count in 1..10 {
            let names: Vec<_> = (0..count).map(|number| format!("n{number}")).collect();
            let value = "x".repeat(100);
            let labels = names.iter().map(|name| (&name[..], &value[..]));
            let long = message(&[("__name__", "up")].into_iter().chain(labels).collect::<Vec<_>>());
            assert_eq!(check(&vec![long; 10]), if count < 5 { 8 } else { 0 }, "{count}");
        }
    }

    proptest! {
        #[test]
        fn what_a_pattern_finds_a_walk_finds(
            kinds in prop::collection::vec(prop::collection::btree_map("(__replica__|cluster|[a-c_]{1,20})", 1_usize..30, 0..6), 1..4),
            series in prop::collection::vec((any::<prop::sample::Index>(), "[xyé]{1,3}"), 1..60),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut messages: Vec<_> = series
                .iter()
                .map(|(kind, value)| {
                    let labels = kind.get(&kinds).iter().map(|(name, length)| (name.clone(), value.repeat(*length)));
                    let labels: Vec<_> = [("__name__".to_owned(), value.clone())].into_iter().chain(labels).collect();
                    message(&labels.iter().map(|(name, value)| (&name[..], &value[..])).collect::<Vec<_>>())
                })
                .collect();
            for (which, at, byte) in damage {
                let message = which.index(messages.len());
                let at = at.index(messages[message].len());
                messages[message][at] = byte;
            }
            check(&messages);
        }
    }
}
