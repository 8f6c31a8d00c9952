//! Any frame: spans inside it, program names that end, stamps that exist.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay::syslog::parse::fuzz(data));
