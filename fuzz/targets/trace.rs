//! Any bytes as a trace: what is valid of them is read, asked and told, and nothing panics.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::read(bytes));
