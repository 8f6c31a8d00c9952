//! Any condition over any frame: the same answer however it is asked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay::route::expression::fuzz(data));
