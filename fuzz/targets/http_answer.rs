#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oauth_operator::fuzz::http_answer(data));
