//! A vocabulary beside another one: what it has of that, and what comes behind it.

use std::collections::HashSet;

use super::tokens::Tokenizer;

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
