//! Any configuration: loaded or refused with reasons, a line each, and no secret in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay::config::fuzz(data));
