//! The vocabulary of words or characters: the tokens of the training text, counted and cut.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::kind::TokenizerKind;
use super::pieces;
use super::tokens::{EOS, UNK};
use crate::said;
use crate::text::TextError;
use crate::text::lines::visit_text;
use crate::text::source::Source;

/// How a vocabulary is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VocabularyOptions {
    /// Rarer tokens become `<unk>`. `None`: 2 for words of a text without a literal `<unk>`, so that the model meets
    /// unknown words in training; else 1.
    pub min_count: Option<u64>,
    /// The most tokens to keep, the most frequent ones; of subwords the most to make, 8000 if nothing is said.
    pub max_size: Option<usize>,
    /// Whether lines are read one by one, with `<pad>`, `<sos>` and `<eos>` around them.
    pub line_markers: bool,
}

/// Counts the tokens of a text and keeps the frequent ones: by falling count, then by first appearance.
pub(super) fn counted(
    kind: TokenizerKind,
    source: &Source,
    options: VocabularyOptions,
    lossy: bool,
) -> Result<Vec<String>, TextError> {
    let mut counts: HashMap<String, (u64, usize)> = HashMap::new();
    let mut line_ends = 0u64;
    let mut count = |token: &str| {
        if let Some(entry) = counts.get_mut(token) {
            entry.0 += 1;
        } else {
            let order = counts.len();
            counts.insert(token.to_owned(), (1, order));
        }
    };
    visit_text(source, lossy, false, &mut |line, ended| {
        pieces::split(kind, line, options.line_markers, &mut count);
        line_ends += u64::from(ended);
    })?;
    if kind.ends_lines() {
        let order = counts.len();
        counts.entry(EOS.to_owned()).or_insert((0, order)).0 += line_ends.max(1);
    }
    let minimum = options.min_count.unwrap_or(if kind.ends_lines() && !counts.contains_key(UNK) { 2 } else { 1 });
    let special = |token: &str| [UNK, EOS].contains(&token);
    let rare: u64 = counts.iter().filter(|(t, (n, _))| *n < minimum && !special(t)).map(|(_, (n, _))| n).sum();
    let order = counts.len();
    counts.entry(UNK.to_owned()).or_insert((0, order)).0 += rare;
    let mut sorted: Vec<_> =
        counts.into_iter().filter(|(token, (count, _))| *count >= minimum || special(token)).collect();
    sorted.sort_by(|(_, (a, a_order)), (_, (b, b_order))| b.cmp(a).then(a_order.cmp(b_order)));
    let mut tokens: Vec<String> = sorted.into_iter().map(|(token, _)| token).collect();
    let is_asked = options.min_count.is_some();
    if is_asked && tokens.iter().all(|token| special(token)) {
        return Err(TextError::Unusable(format!(
            "no token of the training text occurs {}, so nothing would be left to learn; choose a smaller `min-count`",
            said::count(minimum, "time")
        )));
    }
    if let Some(max) = options.max_size {
        let kept: Vec<String> = tokens.iter().take(max).cloned().collect();
        let lost = [UNK, EOS].into_iter().filter(|t| tokens.iter().any(|x| x == t));
        let lost: Vec<String> = lost.filter(|t| !kept.iter().any(|x| x == t)).map(str::to_owned).collect();
        tokens = kept.into_iter().chain(lost).collect();
    }
    Ok(tokens)
}
