//! PromQL selectors, as they stand in configurations and in queries.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| promantis_fuzz::selector::check(input));
