//! The command of a probe, in images with two kinds of shell: what it runs, and what does the same without it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whittle_probe::fuzz::command_of_a_probe(data));
