//! The journal, from what is written to what keeps it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Place;
use super::{monitors, units};
use crate::edge::limits::{self, JournalSettings, SyncMode};

/// The word that is no folder.
const MEMORY: &str = "memory";
/// Bytes that a journal may have at least.
const BYTES_MIN: usize = 64 << 20;

const SYNC_MODES: [(&str, SyncMode); 3] =
    [("batch", SyncMode::Batch), ("interval", SyncMode::Interval), ("never", SyncMode::Never)];

/// Reads the section. A relative path that is written starts at `base`; one request may have `decoded_bytes_max`.
pub(super) fn read(place: &Place<'_>, base: &Path, decoded_bytes_max: usize) -> JournalSettings {
    place.check_keys();
    let path = place.get("path");
    let start = if path.is_written() { base } else { Path::new("") };
    JournalSettings {
        place: path.read(|text| folder(text, start)),
        max_bytes: max_bytes(&place.get("max_bytes"), decoded_bytes_max) as u64,
        max_age: place.get("max_age").read(|text| units::duration_from(text, Duration::from_secs(60), "1m")),
        sync: place.get("sync").read(|text| monitors::one_of("mode", text, &SYNC_MODES)),
        snapshot_interval: place
            .get("snapshot_interval")
            .read(|text| units::duration_from(text, Duration::from_millis(100), "100ms")),
    }
}

fn folder(text: &str, start: &Path) -> Result<limits::Place, String> {
    match text {
        "" => Err(format!("names no folder; write one, or `{MEMORY}`")),
        MEMORY => Ok(limits::Place::Memory),
        path if path.contains('\0') => Err("a path has no NUL character".to_owned()),
        path => Ok(limits::Place::Folder(PathBuf::from(start).join(path))),
    }
}

/// Segments are let go whole, and the largest request has to fit beside another.
fn max_bytes(place: &Place<'_>, decoded_bytes_max: usize) -> usize {
    let bytes = place.read(units::bytes);
    let twice = decoded_bytes_max.saturating_mul(2);
    if bytes < BYTES_MIN {
        place.fail(format!("{bytes} is below the least of {BYTES_MIN}, 64MiB"));
    } else if bytes < twice {
        place.fail(format!("{bytes} is below twice `limits.decoded_bytes`, {twice}"));
    }
    bytes
}
