#![no_main]

use lstm::text::source::Source;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    lstm_fuzz::with_file("text.txt.zst", bytes, |path| {
        let _ = Source::from_file(path).map(|source| source.split_by_default(None));
    });
});
