//! Configuration files.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| promantis_fuzz::configuration::check(input));
