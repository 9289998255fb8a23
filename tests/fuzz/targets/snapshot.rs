//! Snapshots of engines.
#![no_main]

use promantis_fuzz::{seeds, snapshot};

libfuzzer_sys::fuzz_target!(init: seeds::write(snapshot::seeds()), |input: &[u8]| snapshot::check(input));
