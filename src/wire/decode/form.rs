//! The form of labels: what stays of a run where only values change, and none in its length.
//!
//! A scrape writes many series of one form, one behind the other. Compared with the form, labels are known to be
//! canonical for a third of what hops take. What they begin with is often the same to the byte; that is seen by the same
//! comparison, and is not hashed again.

use super::run::value_spans;
use crate::series::{Begun, LabelRun, STRIPE, SeriesHash};

/// Bytes that are compared at once: what is hashed at once, too.
const BLOCK: usize = STRIPE;

/// How many times in a row labels are as long as those before until their form is worth learning.
const ALIKE_MIN: u32 = 2;

/// The form of the labels of an earlier series, which were canonical, ASCII, and named no replica.
///
/// Invariant: what fits it is all of that, too.
#[derive(Clone, Default, Debug)]
pub(super) struct Form {
    /// What is looked at: all bits of those bytes whose hash is begun, of the others as the form has it. None where no form
    /// is known.
    blocks: Vec<Block>,
    /// The form alone.
    loose: Vec<Block>,
    /// The hash of what the labels seen lately begin with.
    begun: Begun,
    /// Bytes of labels of this form.
    length: usize,
    /// Bytes of the labels seen last.
    last: usize,
    /// How many times in a row they were as long as those before.
    alike: u32,
}

/// Bits that are looked at, and what they are.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
struct Block {
    mask: [u8; BLOCK],
    bits: [u8; BLOCK],
}

impl Form {
    /// Whether the labels that the first `length` bytes of `ahead` are to be have this form. Not at the end of a
    /// request, where less than a block is ahead.
    #[inline]
    pub(super) fn fits(&mut self, ahead: &[u8], length: usize) -> bool {
        // Most labels of another form have another length. No form is that of none.
        length == self.length
            && length > 0
            && match ahead.as_chunks().0.get(..self.blocks.len()) {
                Some(blocks) => fit(&self.blocks, blocks) || self.fits_loosely(blocks),
                None => false,
            }
    }

    /// The hash of `run`, which was just found to have this form.
    #[inline]
    pub(super) fn hash(&self, run: LabelRun<'_>) -> SeriesHash {
        self.begun.finish(run)
    }

    /// Whether labels have this form which may begin otherwise than those before: from there on, nothing is expected to
    /// stay.
    #[cold]
    fn fits_loosely(&mut self, ahead: &[[u8; BLOCK]]) -> bool {
        let begun = self.begun.stripes();
        if begun == 0 || !fit(&self.loose, ahead) {
            return false;
        }
        let begins = self.blocks[..begun].iter().zip(ahead);
        let same = begins.take_while(|(block, bytes)| block.bits == **bytes).count();
        self.blocks[same..].copy_from_slice(&self.loose[same..]);
        self.begun = Begun::of(&ahead[..same]);
        true
    }

    /// Takes note of labels that do not have this form.
    #[inline]
    pub(super) fn see(&mut self, run: &[u8]) {
        self.alike = if run.len() == self.last { self.alike + 1 } else { 0 };
        self.last = run.len();
        if self.alike == ALIKE_MIN {
            self.learn(run);
        }
    }

    #[cold]
    fn learn(&mut self, run: &[u8]) {
        let mut mask = vec![0xff; run.len()];
        // Any ASCII is a value.
        value_spans(run).for_each(|value| mask[value].fill(0x80));
        self.loose.clear();
        self.loose.extend(mask.chunks(BLOCK).zip(run.chunks(BLOCK)).map(|(mask, run)| Block::new(mask, run)));
        // All but the last block, until others differ.
        let whole = run[..run.len().saturating_sub(1)].as_chunks().0;
        self.blocks.clear();
        self.blocks.extend(whole.iter().map(|bytes| Block { mask: [0xff; BLOCK], bits: *bytes }));
        self.blocks.extend_from_slice(&self.loose[whole.len()..]);
        self.begun = Begun::of(whole);
        (self.length, self.alike) = (run.len(), 0);
    }
}

impl Block {
    /// Looks at nothing behind the end of `mask`.
    fn new(mask: &[u8], bytes: &[u8]) -> Self {
        let mut block = Self { mask: [0; BLOCK], bits: [0; BLOCK] };
        block.mask[..mask.len()].copy_from_slice(mask);
        block.bits[..bytes.len()].copy_from_slice(bytes);
        block.bits.iter_mut().zip(block.mask).for_each(|(bits, mask)| *bits &= mask);
        block
    }
}

/// Whether the bits of `bytes` that `blocks` look at are what they are to be. Without a way out before the end, and so
/// in vectors; not in line, since only of arguments the alignment is known, which spares a third.
#[inline(never)]
fn fit(blocks: &[Block], bytes: &[[u8; BLOCK]]) -> bool {
    let mut differs = [0; BLOCK];
    for (block, bytes) in blocks.iter().zip(bytes) {
        for (at, differs) in differs.iter_mut().enumerate() {
            *differs |= bytes[at] & block.mask[at] ^ block.bits[at];
        }
    }
    let (quarters, _) = differs.as_chunks();
    quarters.iter().fold(0, |all, quarter| all | u128::from_ne_bytes(*quarter)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::push_label;
    use crate::wire::decode::Limits;
    use crate::wire::decode::run::is_plain_run;

    /// Bytes behind a run, for which it is not at the end of the request.
    const BEHIND: [u8; 2 * BLOCK] = [0x12; 2 * BLOCK];

    fn run(labels: &[(&str, &str)]) -> Vec<u8> {
        let mut run = Vec::new();
        labels.iter().for_each(|(name, value)| push_label(&mut run, name.as_bytes(), value.as_bytes()));
        run
    }

    fn form_of(run: &[u8]) -> Form {
        let mut form = Form::default();
        (0..=ALIKE_MIN).for_each(|_| form.see(run));
        form
    }

    /// Whether it fits, to a form that was met by nothing else. Its hash is that of any run.
    fn fits(form: &Form, run: &[u8]) -> bool {
        let mut form = form.clone();
        let ahead = [run, &BEHIND].concat();
        let fits = form.fits(&ahead, run.len());
        if fits {
            let run = LabelRun::from_canonical(run);
            assert_eq!(form.hash(run), SeriesHash::of(run));
            assert!(form.fits(&ahead, run.as_bytes().len()), "what fitted fits no more");
        }
        fits
    }

    const LABELS: [(&str, &str); 4] =
        [("__name__", "up"), ("instance", "10.0.0.1:9100"), ("job", "node"), ("zone", "z")];

    #[test]
    fn other_values_of_the_same_length_fit_and_nothing_else_does() {
        let form = form_of(&run(&LABELS));
        let [up, instance, job, zone] = LABELS;
        for (labels, expected) in [
            (&[up, instance, job, zone][..], true),
            (&[("__name__", "no"), ("instance", "host-17:10250"), ("job", "\0~ x"), ("zone", "a")], true),
            (&[up, instance, ("jab", "node"), zone], false),
            (&[up, instance, ("job", "nodes"), zone], false),
            (&[up, instance, ("jobs", "ode"), zone], false),
            (&[up, instance, job, ("zone", "é")], false),
            (&[up, ("instance", "10.0.0.1:91é"), job, zone], false),
            (&[up, instance, job], false),
            (&[up, instance, job, zone, ("zoo", "x")], false),
        ] {
            assert_eq!(fits(&form, &run(labels)), expected, "{labels:?}");
        }
    }

    #[test]
    fn whatever_fits_is_what_hops_take_too() {
        for values in ["x", "twelve bytes", &"long ".repeat(18)] {
            let labels = LABELS.map(|(name, value)| (name, if name == "job" { values } else { value }));
            let run = run(&labels);
            let form = form_of(&run);
            for at in 0..run.len() {
                for byte in 0..=0xff {
                    let mut damaged = run.clone();
                    damaged[at] = byte;
                    let hopped = is_plain_run(&damaged, damaged.len(), &Limits::default());
                    assert!(hopped || !fits(&form, &damaged), "{byte:#x} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_form_is_learnt_where_lengths_repeat_and_forgotten_for_another() {
        let (one, other) = (run(&LABELS), run(&LABELS[..3]));
        let mut form = Form::default();
        assert!(!form.fits(&BEHIND, 0));
        for (seen, known) in [(&one, false), (&one, false), (&one, true), (&other, true), (&other, true)] {
            form.see(seen);
            assert_eq!(fits(&form, &one), known);
        }
        form.see(&other);
        assert!(fits(&form, &other) && !fits(&form, &one));
    }

    #[test]
    fn at_the_end_of_a_request_nothing_fits() {
        let run = run(&LABELS);
        let mut form = form_of(&run);
        let whole = run.len().next_multiple_of(BLOCK);
        let ahead = [&run[..], &BEHIND].concat();
        assert!(form.fits(&ahead[..whole], run.len()));
        assert!(!form.fits(&ahead[..whole - 1], run.len()));
    }
}
