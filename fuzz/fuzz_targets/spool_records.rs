//! Any octets of a block: a batch that is read again as the same, or none.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay::spool::records::fuzz(data));
