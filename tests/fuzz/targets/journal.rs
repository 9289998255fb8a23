//! Segments of the journal.
#![no_main]

use promantis_fuzz::{journal, seeds};

libfuzzer_sys::fuzz_target!(init: seeds::write(journal::seeds()), |input: &[u8]| journal::check(input));
