//! Labels of a series as one contiguous run of bytes.
//!
//! The run is what remote write 1.0 sends: for each label `0a LEN 0a NAMELEN NAME 12 VALUELEN VALUE`,
//! lengths as varints. A *canonical* run is sorted by name, has no name twice and no empty value, and
//! encodes each length in the fewest bytes; then equal label sets are equal bytes.

/// Name of the label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// Tag of a label inside a series: field 1, length-delimited.
const LABEL_TAG: u8 = 0x0a;
/// Tag of the name inside a label: field 1, length-delimited.
const NAME_TAG: u8 = 0x0a;
/// Tag of the value inside a label: field 2, length-delimited.
const VALUE_TAG: u8 = 0x12;

/// A name and a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Label<'a> {
    /// Never empty in a canonical run.
    pub name: &'a str,
    /// Never empty in a canonical run.
    pub value: &'a str,
}

/// A borrowed canonical run.
///
/// Invariant: made by [`LabelRunBuf`], or checked by the decoder; its text is valid UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LabelRun<'a>(&'a [u8]);

impl<'a> LabelRun<'a> {
    /// Takes bytes that are known to be a canonical run.
    pub const fn from_canonical(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes bytes of unknown origin, where they are a canonical run. Builds it again to compare.
    pub fn checked(bytes: &'a [u8]) -> Option<Self> {
        let run = Self(bytes);
        let mut again = Vec::with_capacity(bytes.len());
        let mut last = "";
        for label in run.iter() {
            if label.name <= last || label.value.is_empty() {
                return None;
            }
            last = label.name;
            push_label(&mut again, label.name.as_bytes(), label.value.as_bytes());
        }
        (again == bytes).then_some(run)
    }

    /// The run as it stands on the wire.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Labels in order of their names. Ends early where the bytes are not a canonical run.
    pub fn iter(self) -> impl Iterator<Item = Label<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (label, after) = split_label(rest)?;
            rest = after;
            Some(label)
        })
    }

    /// Value of the label called `name`.
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.iter().find(|label| label.name == name).map(|label| label.value)
    }

    /// The metric's name.
    pub fn metric_name(self) -> Option<&'a str> {
        self.get(METRIC_NAME)
    }

    /// Where the label called `name` stands: its bytes, tag and lengths included.
    pub fn position(self, name: &str) -> Option<std::ops::Range<usize>> {
        let mut rest = self.0;
        loop {
            let (label, after) = split_label(rest)?;
            if label.name == name {
                return Some(self.0.len() - rest.len()..self.0.len() - after.len());
            }
            rest = after;
        }
    }

    /// Where a label called `name` belongs: offset in bytes of the first label that sorts after it.
    pub fn insertion_point(self, name: &str) -> usize {
        let mut rest = self.0;
        while let Some((label, after)) = split_label(rest) {
            if label.name > name {
                break;
            }
            rest = after;
        }
        self.0.len() - rest.len()
    }
}

/// Writes `{a="b", c="d"}` with the metric's name before it, as PromQL does.
impl std::fmt::Display for LabelRun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.metric_name().unwrap_or_default())?;
        let mut open = false;
        for label in self.iter().filter(|label| label.name != METRIC_NAME) {
            f.write_str(if open { ", " } else { "{" })?;
            open = true;
            write!(f, "{}={:?}", label.name, label.value)?;
        }
        f.write_str(if open { "}" } else { "" })
    }
}

/// Builds a canonical run from labels in any order.
#[derive(Default, Debug)]
pub struct LabelRunBuf {
    labels: Vec<(String, String)>,
}

impl LabelRunBuf {
    /// Adds a label; a later one of the same name replaces it. An empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.labels.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.labels.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The bytes of the canonical run.
    pub fn encode(&self) -> Box<[u8]> {
        let mut sorted: Vec<_> = self.labels.iter().collect();
        sorted.sort();
        let mut bytes = Vec::new();
        for (name, value) in sorted {
            push_label(&mut bytes, name.as_bytes(), value.as_bytes());
        }
        bytes.into()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for LabelRunBuf {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(labels: T) -> Self {
        let mut run = Self::default();
        for (name, value) in labels {
            run.set(name, value);
        }
        run
    }
}

/// Appends one label, tag and lengths included.
pub fn push_label(bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let inner = 2 + varint_len(name.len()) + name.len() + varint_len(value.len()) + value.len();
    bytes.push(LABEL_TAG);
    push_varint(bytes, inner);
    bytes.push(NAME_TAG);
    push_varint(bytes, name.len());
    bytes.extend_from_slice(name);
    bytes.push(VALUE_TAG);
    push_varint(bytes, value.len());
    bytes.extend_from_slice(value);
}

fn push_varint(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn varint_len(number: usize) -> usize {
    (usize::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// Cuts the first label off `run`; `None` at the end and where the bytes are no label.
fn split_label(run: &[u8]) -> Option<(Label<'_>, &[u8])> {
    let rest = run.strip_prefix(&[LABEL_TAG])?;
    let (label, after) = split_text(rest)?;
    let (name, label) = split_text(label.strip_prefix(&[NAME_TAG])?)?;
    let (value, _) = split_text(label.strip_prefix(&[VALUE_TAG])?)?;
    let label = Label { name: std::str::from_utf8(name).ok()?, value: std::str::from_utf8(value).ok()? };
    Some((label, after))
}

/// Cuts a length and as many bytes off `bytes`.
fn split_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return bytes[index + 1..].split_at_checked(length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_label_sets_are_equal_bytes_whatever_their_order() {
        let one: LabelRunBuf = [("b", "2"), ("__name__", "up"), ("A", "1")].into_iter().collect();
        let two: LabelRunBuf = [("A", "1"), ("b", "2"), ("__name__", "up")].into_iter().collect();
        assert_eq!(one.encode(), two.encode());
        assert_eq!(LabelRun(&one.encode()).to_string(), r#"up{A="1", b="2"}"#);
    }

    #[test]
    fn only_canonical_bytes_are_a_run() {
        let check = |bytes: &[u8], canonical| {
            assert_eq!(LabelRun::checked(bytes).is_some(), canonical, "{bytes:?}");
        };
        let run: LabelRunBuf = [("a", "1"), ("b", "2")].into_iter().collect();
        let (bytes, label) = (run.encode(), b"\x0a\x06\x0a\x01a\x12\x011");
        check(&[], true);
        check(&bytes, true);
        check(label, true);
        check(&bytes[..7], false);
        check(&[label.as_slice(), label].concat(), false); // A name twice.
        check(&[&bytes[8..], &bytes[..8]].concat(), false); // Not sorted.
        check(b"\x0a\x05\x0a\x01a\x12\x00", false); // No value.
        check(b"\x0a\x05\x0a\x00\x12\x011", false); // No name.
        check(b"\x0a\x06\x0a\x01\xff\x12\x011", false); // No text.
        check(b"\x0a\x07\x0a\x81\x00a\x12\x011", false); // A length in more bytes than it needs.
        check(b"\x0a\x07\x0a\x01a\x12\x0112", false); // A label that goes on.
    }

    #[test]
    fn long_values_have_long_lengths() {
        let value = "x".repeat(20_000);
        let run: LabelRunBuf = [("__name__", "up"), ("long", value.as_str())].into_iter().collect();
        assert_eq!(LabelRun(&run.encode()).get("long"), Some(value.as_str()));
    }

    #[test]
    fn a_label_is_inserted_where_its_name_sorts() {
        let run: LabelRunBuf = [("A", "1"), ("b", "2")].into_iter().collect();
        let bytes = run.encode();
        assert_eq!(LabelRun(&bytes).insertion_point("0"), 0);
        assert_eq!(LabelRun(&bytes).insertion_point("__name__"), bytes.len() / 2);
        assert_eq!(LabelRun(&bytes).insertion_point("c"), bytes.len());
    }
}
