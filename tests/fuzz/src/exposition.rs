//! Pages of exporters: every line is accounted for, and both readers of a line read the same.

use promantis::wire::decode::Limits;
use promantis::wire::exposition::{Exposed, Format, Page, REJECTED_KEPT, parse};

use crate::cost::bounded;

/// The latest timestamp accepted, in the middle of what inputs have.
const LATEST: i64 = 1_700_000_000_000;

/// Checks a page: text where the first byte is even, OpenMetrics where it is odd.
///
/// # Panics
/// Where something does not hold.
pub fn check(input: &[u8]) {
    let Some((form, page)) = input.split_first() else { return };
    let format = if form % 2 == 0 { Format::Text } else { Format::OpenMetrics };
    let limits = Limits::default();
    let read = bounded(|| parse(page, format, &limits, LATEST));
    is_accounted_for(&read, page);
    read.samples.iter().for_each(is_sound);
    assert!(read.kinds.is_sorted_by(|one, other| one.family < other.family), "each family once, sorted");
    let strict = parse(&with_exemplars(page), format, &limits, LATEST);
    assert_eq!(in_words(&strict), in_words(&read), "an exemplar changes nothing, but who reads the line");
}

/// Samples and rejected lines are all the lines that are no comments; a comment and a missing end may be rejected too.
fn is_accounted_for(read: &Page, page: &[u8]) {
    let lines = page.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let (comments, others): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with(b"#"));
    let seen = read.samples.len() + read.rejected.lines;
    let (least, most) = (others.len(), others.len() + comments.len() + 1);
    assert!((least..=most).contains(&seen), "{seen} lines came out of {least} to {most}");
    assert_eq!(read.rejected.first.len(), read.rejected.lines.min(REJECTED_KEPT));
}

fn is_sound(sample: &Exposed) {
    assert!(!sample.name.is_empty(), "a sample has a name");
    let ascending = sample.labels.is_sorted_by(|one, other| one.0 < other.0);
    assert!(ascending, "labels are sorted, each name once: {:?}", sample.labels);
    assert!(sample.labels.iter().all(|(name, value)| !value.is_empty() && name != "__name__"));
    assert!(sample.timestamp.is_none_or(|timestamp| timestamp <= LATEST), "none is too far ahead");
}

/// The page with an exemplar after each sample, which only the strict reader takes.
fn with_exemplars(page: &[u8]) -> Vec<u8> {
    let line = |line: &[u8]| match line.trim_ascii() {
        sample if sample.is_empty() || sample.contains(&b'#') => line.to_vec(),
        sample => [sample, b" # {} 1"].concat(),
    };
    page.split(|byte| *byte == b'\n').map(line).collect::<Vec<_>>().join(&b'\n')
}

/// What a page comes to, with the bits of its values. Of rejected lines only their numbers: reasons show the line.
fn in_words(page: &Page) -> (Vec<String>, Vec<usize>, usize) {
    let sample = |sample: &Exposed| {
        let Exposed { name, labels, value, timestamp } = sample;
        format!("{name} {labels:?} {:x} {timestamp:?}", value.to_bits())
    };
    let rejected = page.rejected.first.iter().map(|error| error.line).collect();
    (page.samples.iter().map(sample).collect(), rejected, page.rejected.lines)
}
