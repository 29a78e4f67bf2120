#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth_operator::fuzz::object_yaml(data));
