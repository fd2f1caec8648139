#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    lstm_fuzz::with_file("model.safetensors", bytes, |path| {
        if let Err(error) = lstm::LanguageModel::open(path) {
            assert!(!error.to_string().is_empty());
        }
    });
});
