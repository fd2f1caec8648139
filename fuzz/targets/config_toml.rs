#![no_main]

use lstm::run::saved::LoadedRun;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // A run folder of this file alone: its configuration is read first.
    lstm_fuzz::with_file("config.toml", bytes, |path| {
        if let Err(error) = LoadedRun::open(path.parent().expect("the folder of the file")) {
            assert!(!error.to_string().is_empty());
        }
    });
});
