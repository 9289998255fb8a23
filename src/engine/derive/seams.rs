//! Where what a derived series gains goes among the labels of its source.

use super::EXTRA_NAMES;
use crate::series::{LabelRun, METRIC_NAME, push_label};

/// Labels that all outputs gain, ascending; the last one not always.
const GAINED: [&str; 3] = ["metric_name", "monitor", "stat"];

/// Offsets in the label run of a source, found once: 12 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seams {
    /// Begin and end of the label `__name__`, and the length of its value.
    name: [u16; 3],
    /// Before which labels the gained ones go.
    gained: [u16; GAINED.len()],
}

impl Seams {
    /// Looks for the seams of `source`. None where they are of no use: it has no name or a label of ours, which is to
    /// be renamed, or its run has 64 KiB.
    pub fn of(source: LabelRun<'_>) -> Option<Self> {
        let ours = |name| GAINED.contains(&name) || EXTRA_NAMES.contains(&name);
        if source.iter().any(|label| ours(label.name)) {
            return None;
        }
        let name = source.position(METRIC_NAME)?;
        let short = |at: usize| u16::try_from(at).ok();
        let [metric, monitor, stat] = GAINED.map(|name| short(source.insertion_point(name)));
        Some(Self {
            name: [short(name.start)?, short(name.end)?, short(source.metric_name()?.len())?],
            gained: [metric?, monitor?, stat?],
        })
    }

    /// Appends to `room` the labels of the source that these are seams of, without its name, with its name as
    /// `metric_name`, and with the values for `monitor` and, unless it is empty, `stat`. Returns where a name goes.
    pub(super) fn fill(self, source: LabelRun<'_>, values: [&str; 2], room: &mut Vec<u8>) -> usize {
        let bytes = source.as_bytes();
        let [start, end, length] = self.name.map(usize::from);
        let [metric, monitor, stat] = self.gained.map(usize::from);
        room.extend_from_slice(&bytes[..start]);
        let name_at = room.len();
        room.extend_from_slice(&bytes[end..metric]);
        push_label(room, GAINED[0].as_bytes(), &bytes[end - length..end]);
        room.extend_from_slice(&bytes[metric..monitor]);
        push_label(room, GAINED[1].as_bytes(), values[0].as_bytes());
        if values[1].is_empty() {
            room.extend_from_slice(&bytes[monitor..]);
        } else {
            room.extend_from_slice(&bytes[monitor..stat]);
            push_label(room, GAINED[2].as_bytes(), values[1].as_bytes());
            room.extend_from_slice(&bytes[stat..]);
        }
        name_at
    }
}
