//! The vocabulary of words or characters: the tokens of the training text, counted and cut.

use std::collections::{HashMap, HashSet};

use super::{EOS, Tokenizer, TokenizerKind, UNK, VocabularyOptions, chars, words};
use crate::text::TextError;
use crate::text::lines::visit_text;
use crate::text::source::Source;

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
    visit_text(source, lossy, false, &mut |line, ended| match kind {
        TokenizerKind::Words => {
            words::split(line, &mut count);
            line_ends += u64::from(ended);
        }
        _ => chars::split(line, options.line_markers, &mut count),
    })?;
    if kind == TokenizerKind::Words {
        let order = counts.len();
        counts.entry(EOS.to_owned()).or_insert((0, order)).0 += line_ends.max(1);
    }
    let words = kind == TokenizerKind::Words;
    let minimum = options.min_count.unwrap_or(if words && !counts.contains_key(UNK) { 2 } else { 1 });
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
            "no token of the training text occurs {minimum} times, so nothing would be left to learn; choose a \
             smaller `min-count`"
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

impl Tokenizer {
    /// This vocabulary, and behind it the tokens that `other` has beside.
    pub(crate) fn extended_by(&self, other: &Self) -> Self {
        let mut stored = self.stored.clone();
        stored.tokens.extend(other.stored.tokens.iter().filter(|token| !self.ids.contains_key(*token)).cloned());
        Self::new(stored, None)
    }

    /// For every token its id in another vocabulary, if it is in that.
    pub(crate) fn ids_in(&self, other: &Self) -> Vec<Option<u32>> {
        self.stored.tokens.iter().map(|token| other.id(token)).collect()
    }

    /// Takes tokens that are known from the text of `before`, whose ids are the same here, for seen.
    pub(crate) fn know_what(&mut self, before: &Self) {
        let Some(unseen) = self.unseen() else { return };
        let never: Option<HashSet<u32>> = before.unseen().map(|ids| ids.into_iter().collect());
        let is_known = |id: u32| {
            (id as usize) < before.vocabulary_size() && never.as_ref().is_none_or(|never| !never.contains(&id))
        };
        self.stored.unseen = Some(runs(unseen.into_iter().filter(|id| !is_known(*id))));
    }
}

/// Ids in rising order as runs: the first and the last of each.
pub(super) fn runs(ids: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for id in ids {
        match runs.last_mut().filter(|(_, last)| last + 1 == id) {
            Some((_, last)) => *last = id,
            None => runs.push((id, id)),
        }
    }
    runs
}
