//! Labels that are those of a source, rearranged: without its name, and with some gained in between.

use super::{LabelRun, METRIC_NAME, push_label};

/// Labels that are gained, ascending: what the source is called, who derives, and from which statistic of it; the last
/// one not always.
pub const GAINED: [&str; 3] = ["metric_name", "monitor", "stat"];

/// Offsets in the label run of a source, found once: 12 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seams(
    /// Begin and end of the label `__name__`, and the length of its value; then, before which labels the gained ones go.
    /// All in one, so that they are read as two numbers.
    [u16; 3 + GAINED.len()],
);

impl Seams {
    /// Looks for the seams of `source`. None where there are none: it has no name or a label that is to be gained, or
    /// its run has 64 KiB.
    pub fn of(source: LabelRun<'_>) -> Option<Self> {
        if source.iter().any(|label| GAINED.contains(&label.name)) {
            return None;
        }
        let name = source.position(METRIC_NAME)?;
        let short = |at: usize| u16::try_from(at).ok();
        short(source.as_bytes().len())?;
        let [metric, monitor, stat] = GAINED.map(|name| short(source.insertion_point(name)));
        let length = short(source.metric_name()?.len())?;
        Some(Self([short(name.start)?, short(name.end)?, length, metric?, monitor?, stat?]))
    }

    /// Begin and end of the label that names the source, and where its value begins.
    #[inline]
    pub fn name(&self) -> [usize; 3] {
        let [start, end, length, ..] = self.0.map(usize::from);
        [start, end, end - length]
    }

    /// Before which labels of the source the gained ones go.
    #[inline]
    pub fn gained(&self) -> [usize; GAINED.len()] {
        let [.., metric, monitor, stat] = self.0.map(usize::from);
        [metric, monitor, stat]
    }

    /// As two numbers, which tell any seams from others.
    #[inline]
    pub fn numbers(&self) -> [u64; 2] {
        let [start, end, length, metric, monitor, stat] = self.0.map(u64::from);
        [start | end << 16 | length << 32 | metric << 48, monitor | stat << 16]
    }
}

/// Labels that are woven from those of a source, and are put together only where somebody asks.
///
/// Invariant: the seams are those of the source.
#[derive(Clone, Copy, Debug)]
pub struct Woven<'a> {
    /// Labels of the source.
    pub source: LabelRun<'a>,
    /// Its seams.
    pub seams: Seams,
    /// The value for `monitor`.
    pub monitor: &'a str,
    /// The value for `stat`, which is not gained where this is empty.
    pub stat: &'a str,
}

impl Woven<'_> {
    /// Appends the labels that are gained, each with its length; one that is not gained has none.
    pub fn push_gained(&self, room: &mut Vec<u8>) -> [usize; GAINED.len()] {
        self.gained().map(|(name, value)| gain(room, name, value))
    }

    /// Names and values of the labels that are gained; one without a value is not.
    fn gained(&self) -> [(&'static str, &[u8]); GAINED.len()] {
        let [_, end, value_at] = self.seams.name();
        let [metric, monitor, stat] = GAINED;
        let name = &self.source.as_bytes()[value_at..end];
        [(metric, name), (monitor, self.monitor.as_bytes()), (stat, self.stat.as_bytes())]
    }

    /// Appends all but the derived series' own name. Returns the length of what stands in front of that.
    pub fn write(&self, room: &mut Vec<u8>) -> usize {
        let source = self.source.as_bytes();
        let [before, mut from, _] = self.seams.name();
        room.extend_from_slice(&source[..before]);
        for (at, (name, value)) in self.seams.gained().into_iter().zip(self.gained()) {
            room.extend_from_slice(&source[from..at]);
            gain(room, name, value);
            from = at;
        }
        room.extend_from_slice(&source[from..]);
        before
    }
}

/// Appends a label, unless it has no value. Returns its length.
fn gain(room: &mut Vec<u8>, name: &str, value: &[u8]) -> usize {
    let start = room.len();
    if !value.is_empty() {
        push_label(room, name.as_bytes(), value);
    }
    room.len() - start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::LabelRunBuf;

    fn run(labels: &[(&str, &str)]) -> Box<[u8]> {
        labels.iter().copied().collect::<LabelRunBuf>().encode()
    }

    #[test]
    fn what_is_woven_is_canonical_wherever_labels_are_gained() {
        for name in ["a", "metric_namf", "monitos", "z", "A"] {
            for stat in ["", "rate"] {
                let source = run(&[("__name__", "up"), (name, "1")]);
                let source = LabelRun::from_canonical(&source);
                let seams = Seams::of(source).unwrap();
                let mut woven = Vec::new();
                let before = Woven { source, seams, monitor: "m", stat }.write(&mut woven);
                let expected = [(name, "1"), ("metric_name", "up"), ("monitor", "m"), ("stat", stat)];
                assert_eq!(woven, *run(&expected));
                assert_eq!(before > 0, name == "A");
            }
        }
    }

    #[test]
    fn a_source_with_a_label_that_is_to_be_gained_has_no_seams() {
        for name in GAINED {
            assert_eq!(Seams::of(LabelRun::from_canonical(&run(&[("__name__", "up"), (name, "1")]))), None);
        }
        assert_eq!(Seams::of(LabelRun::from_canonical(&run(&[("a", "1")]))), None);
    }
}
