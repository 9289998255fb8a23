//! Where what a derived series gains goes among the labels of its source.

use super::{DerivedLabels, EXTRA_NAMES, Room};
use crate::series::{LabelRun, METRIC_NAME};

/// Labels that all outputs gain, ascending; the last one not always.
pub(super) const GAINED: [&str; 3] = ["metric_name", "monitor", "stat"];

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

    /// The labels of the source that these are seams of, without its name, with its name as `metric_name`, and with the
    /// values for `monitor` and, unless it is empty, `stat`.
    pub(super) fn derive<'a>(
        self,
        source: LabelRun<'a>,
        [monitor, stat]: [&str; 2],
        room: &'a mut Room,
    ) -> DerivedLabels<'a> {
        let bytes = source.as_bytes();
        let [start, end, length] = self.name.map(usize::from);
        let values = [&bytes[end - length..end], monitor.as_bytes(), stat.as_bytes()];
        for (gained, (name, value)) in room.gained.iter_mut().zip(GAINED.into_iter().zip(values)) {
            gained.set(name, value);
        }
        let [metric_at, monitor_at, stat_at] = self.gained.map(usize::from);
        let [metric, monitor, said] = room.gained.each_ref().map(|gained| &*gained.label);
        let said = if stat.is_empty() { &[] } else { said };
        DerivedLabels {
            before: &bytes[..start],
            after: [
                &bytes[end..metric_at],
                metric,
                &bytes[metric_at..monitor_at],
                monitor,
                &bytes[monitor_at..stat_at],
                said,
                &bytes[stat_at..],
            ],
        }
    }
}
