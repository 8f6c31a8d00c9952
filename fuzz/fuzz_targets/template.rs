//! Any template over any frame: within the length it promises.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay::template::fuzz(data));
