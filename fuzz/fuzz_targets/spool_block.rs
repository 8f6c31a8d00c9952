//! Any octets of a segment: a header or none, a payload that opens or none.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay::spool::block::fuzz(data));
