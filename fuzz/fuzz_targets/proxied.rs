//! A header of the PROXY protocol is the same however much of it is there.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay::receive::proxied::fuzz(data));
