//! Any text of rsyslog's configuration language: statements or a mistake, each with a place in the text.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay::config::fuzz_rsyslog(data));
