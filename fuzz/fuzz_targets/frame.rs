//! Any octets in any reads come apart into the same frames, and uncut none is lost.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay::syslog::frame::fuzz(data));
