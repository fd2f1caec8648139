//! A stream of documents in pieces: each ends with its document or its segment, and every row has as many.

use crate::text::corpus::Corpus;

/// Where the pieces of a text start that is cut where documents begin, and every `length()` tokens from there.
pub(super) fn pieces(corpus: &Corpus, length: &mut dyn FnMut() -> usize) -> Vec<usize> {
    let starts = &corpus.document_starts;
    let mut pieces = Vec::new();
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(corpus.ids.len());
        let mut at = start;
        while at < end {
            pieces.push(at);
            at = at.saturating_add(length().max(1));
        }
    }
    pieces
}

/// The first piece of each of `batch` rows that are as long as each other, and the end: a row may begin within a document.
pub(super) fn even_rows(pieces: usize, batch: usize) -> Vec<usize> {
    (0..=batch).map(|row| (row as u128 * pieces as u128 / batch as u128) as usize).collect()
}

/// The first piece of each of at most `batch` rows that begin with a document, and the end.
pub(super) fn rows_of_documents(corpus: &Corpus, pieces: &[usize], batch: usize) -> Vec<usize> {
    let starts = &corpus.document_starts;
    let first_piece = |row: usize| {
        let wanted = (row as u128 * corpus.ids.len() as u128 / batch as u128) as usize;
        let start = starts.get(starts.partition_point(|&start| start < wanted))?;
        pieces.binary_search(start).ok()
    };
    let mut rows: Vec<usize> = (0..batch).filter_map(first_piece).collect();
    rows.push(pieces.len());
    rows.dedup();
    rows
}
