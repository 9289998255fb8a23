//! Inputs to start from that are made, not kept.

use std::path::Path;

/// Environment variable that names an existing folder for [`write`].
const FOLDER: &str = "PROMANTIS_FUZZ_SEEDS";

/// Writes `seeds` into the folder that the environment names, one file each; without a folder, nothing. libFuzzer
/// calls this before it looks at its corpus.
///
/// # Panics
/// Where a file cannot be written.
pub fn write(seeds: impl Iterator<Item = Vec<u8>>) {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    for (number, seed) in seeds.enumerate() {
        std::fs::write(Path::new(&folder).join(format!("seed-{number:03}")), seed).expect("write a seed");
    }
}
