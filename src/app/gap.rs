//! When the gap begins that a start has to fill, remembered until it is filled: a start may end before.
//!
//! The journal alone does not tell: what was filled is in it as what came last.

use std::io;
use std::sync::Arc;

use crate::edge::disk::{Disk, read_whole};

/// The file that has it: milliseconds since the Unix epoch, as text.
const NAME: &str = "gap";
const NEW: &str = "gap.new";
/// More than any number of milliseconds has.
const BYTES_MAX: u64 = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Gap(Arc<dyn Disk>);

impl Gap {
    /// Remembered on `disk`.
    pub(super) fn on(disk: Arc<dyn Disk>) -> Self {
        Self(disk)
    }

    /// When the gap behind `last` begins: earlier, where an earlier start has not filled it.
    pub(super) fn begin(&self, last: i64) -> i64 {
        let begin = self.read().map_or(last, |unfilled| unfilled.min(last));
        if let Err(error) = self.write(begin) {
            tracing::warn!(%error, "if this start does not fill the gap, the next one will not, either");
        }
        begin
    }

    /// It is filled, or never will be.
    pub(super) fn close(&self) {
        match self.0.remove(NAME).and_then(|()| self.0.sync()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the next start will ask for the gap again");
            }
            _ => {}
        }
    }

    fn read(&self) -> Option<i64> {
        let bytes = read_whole(&*self.0.open(NAME).ok()?, BYTES_MAX).ok()?;
        str::from_utf8(&bytes).ok()?.parse().ok()
    }

    fn write(&self, begin: i64) -> io::Result<()> {
        let file = self.0.create(NEW)?;
        file.append(begin.to_string().as_bytes())?;
        file.sync()?;
        self.0.rename(NEW, NAME)?;
        self.0.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::disk::MemoryDisk;

    #[test]
    fn a_gap_begins_where_it_was_left_until_it_is_closed() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let begin = |last| Gap::on(Arc::clone(&disk)).begin(last);
        assert_eq!(begin(5), 5);
        assert_eq!(begin(9), 5, "what was filled came since");
        Gap::on(Arc::clone(&disk)).close();
        assert_eq!(begin(9), 9);
        assert_eq!(begin(7), 7);
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "soon", "\u{0}", &"9".repeat(40)] {
            let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
            disk.create(NAME).and_then(|file| file.append(text.as_bytes())).expect("memory takes it");
            assert_eq!(Gap::on(disk).begin(9), 9);
        }
    }

    #[test]
    fn to_close_none_is_nothing() {
        Gap::on(Arc::new(MemoryDisk::default())).close();
    }
}
