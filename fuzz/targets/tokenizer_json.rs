#![no_main]

use lstm::text::tokenizer::Tokenizer;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Ours, and one of another program.
    lstm_fuzz::with_file("tokenizer.json", bytes, |path| {
        for tokenizer in [Tokenizer::load(path), Tokenizer::read_vocabulary(path, false)].into_iter().flatten() {
            if let Ok(tokens) = tokenizer.encode("The cat sees\na dog. Grüße 東京\n") {
                for token in tokens {
                    assert!((token as usize) < tokenizer.vocabulary_size());
                    let _ = tokenizer.text(token);
                }
            }
        }
    });
});
