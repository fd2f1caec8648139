//! N-grams of a corpus, and their loss on one.

use super::{Ngram, Running};
use crate::free_memory::free_memory;
use crate::model::loss::Loss;
use crate::text::TextError;
use crate::text::batch::Batching;
use crate::text::corpus::Corpus;
use crate::text::tokenizer::Tokenizer;

/// Bytes that fitting takes for each token of a text and each order, at most: keys, counts and contexts of grams that
/// are all different, and the indices of two orders while they are built.
const BYTES_PER_TOKEN_AND_ORDER: u64 = 40;

impl Ngram {
    /// Counts a corpus as its model reads it.
    ///
    /// # Errors
    /// A corpus whose grams do not fit the free memory.
    pub fn of_corpus(order: usize, corpus: &Corpus, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let needed = corpus.ids.len() as u64 * order as u64 * BYTES_PER_TOKEN_AND_ORDER;
        if let Some(available) = free_memory().filter(|available| needed > *available) {
            return Err(TextError::Unusable(format!(
                "counting {order} tokens at a time in a text of {} may need {} MiB, but {} MiB of memory are free",
                corpus.ids.len(),
                needed >> 20,
                available >> 20
            )));
        }
        let (ids, end) = (running(corpus, tokenizer), tokenizer.eos());
        let text = Running::new(&ids, end, &corpus.document_starts);
        Ok(Self::count(order, &text, tokenizer.vocabulary_size(), end))
    }

    /// The loss on a corpus, of the tokens that a model with this batching predicts.
    pub fn loss(&self, corpus: &Corpus, tokenizer: &Tokenizer, batching: Batching) -> Loss {
        let text = Running::new(&running(corpus, tokenizer), self.end, &corpus.document_starts);
        let Batching::Windows(n) = batching else { return self.predict(&text, |_| true) };
        // Windows begin with a marker: their first target is the nth token of a line, or the end of a shorter one.
        let mut in_line = 0;
        self.predict(&text, |id| {
            in_line += 1;
            let (predicted, ended) = (in_line >= n, Some(id) == self.end);
            in_line = if ended { 0 } else { in_line };
            predicted || ended
        })
    }
}

/// The ids of a corpus with the ends of its lines.
fn running(corpus: &Corpus, tokenizer: &Tokenizer) -> Vec<u32> {
    let ids = |range: std::ops::Range<usize>| range.map(|at| corpus.ids.get(at));
    match tokenizer.eos() {
        Some(end) if tokenizer.line_markers() => {
            (0..corpus.line_starts.len()).flat_map(|line| ids(corpus.line(line)).chain([end])).collect()
        }
        _ => ids(0..corpus.ids.len()).collect(),
    }
}
