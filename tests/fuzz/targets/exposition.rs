//! Text exposition and OpenMetrics pages.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| promantis_fuzz::exposition::check(input));
