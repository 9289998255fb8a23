//! Remote write 1.0, with and without snappy around it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promantis::wire::decode::Protocol;
use promantis_fuzz::{remote_write, seeds};

fuzz_target!(init: seeds::write(remote_write::seeds(Protocol::V1)), |input: &[u8]| remote_write::check(Protocol::V1, input));
