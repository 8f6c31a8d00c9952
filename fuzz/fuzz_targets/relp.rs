//! Any octets in any reads are the same events of RELP, at either end.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay::relp::fuzz(data));
