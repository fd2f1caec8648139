//! The states after texts that were read lately: a text that begins as one of them costs only its new tokens.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::documents::Place;

/// States by the tokens that led to them, the least recently used of which are forgotten.
#[derive(Debug)]
pub struct Prefixes {
    states: HashMap<u64, State>,
    /// The keys in the order of their last use.
    uses: BTreeMap<u64, u64>,
    clock: u64,
    bytes: usize,
    most_bytes: usize,
}

#[derive(Debug)]
struct State {
    tokens: Vec<u32>,
    values: Vec<f32>,
    place: Place,
    used: u64,
}

/// What a state takes beside its tokens and values: its entries in both tables, and what the allocator adds.
const OWN_BYTES: usize = size_of::<State>() + 96;

impl Prefixes {
    /// States of at most so many bytes together.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { states: HashMap::new(), uses: BTreeMap::new(), clock: 0, bytes: 0, most_bytes }
    }

    /// The number of states.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// The bytes that they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes of a state of so many values after so many tokens.
    pub(super) fn bytes_of(values: usize, tokens: usize) -> usize {
        4 * (values + tokens) + OWN_BYTES
    }

    /// Keeps the state after these tokens.
    pub(super) fn insert(&mut self, tokens: &[u32], values: Vec<f32>, place: &Place) {
        let own = Self::bytes_of(values.len(), tokens.len());
        if own > self.most_bytes {
            return;
        }
        let key = keys(tokens).last().unwrap_or_default();
        self.remove(key);
        self.clock += 1;
        self.bytes += own;
        self.uses.insert(self.clock, key);
        self.states.insert(key, State { tokens: tokens.to_vec(), values, place: place.clone(), used: self.clock });
        while self.bytes > self.most_bytes {
            let Some((_, oldest)) = self.uses.pop_first() else { break };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, key: u64) {
        if let Some(state) = self.states.remove(&key) {
            self.bytes -= Self::bytes_of(state.values.len(), state.tokens.len());
            self.uses.remove(&state.used);
        }
    }

    /// The longest beginning of `tokens`, but not all of them, whose state is kept: its length, its state and its place.
    pub(super) fn longest(&mut self, tokens: &[u32]) -> Option<(usize, &[f32], &Place)> {
        let keys: Vec<u64> = keys(tokens).collect();
        let is_kept = |length: usize| {
            let state = self.states.get(&keys[length - 1]);
            state.is_some_and(|state| state.tokens == tokens[..length])
        };
        let length = (1..tokens.len()).rev().find(|length| is_kept(*length))?;
        let state = self.states.get_mut(&keys[length - 1])?;
        self.clock += 1;
        self.uses.remove(&state.used);
        self.uses.insert(self.clock, keys[length - 1]);
        state.used = self.clock;
        Some((length, &state.values, &state.place))
    }
}

/// A number for every beginning of `tokens`, from that of one token on.
fn keys(tokens: &[u32]) -> impl Iterator<Item = u64> {
    let mut hasher = DefaultHasher::new();
    tokens.iter().map(move |token| {
        token.hash(&mut hasher);
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_is_found_and_the_least_used_is_forgotten() {
        let own = Prefixes::bytes_of(1, 2);
        let mut prefixes = Prefixes::new(3 * own);
        let place = Place::default();
        for token in 0..3 {
            prefixes.insert(&[7, token], vec![token as f32], &place);
        }
        let mut found = |tokens: &[u32]| prefixes.longest(tokens).map(|(length, values, _)| (length, values.to_vec()));
        assert_eq!(found(&[7, 0, 1]), Some((2, vec![0.0])));
        assert_eq!([found(&[7, 0]), found(&[7]), found(&[]), found(&[8, 0, 1])], [const { None }; 4]);
        // A longer one wins, and the states of 1, which was used least, make room for it.
        assert_eq!(found(&[7, 2, 5, 5]), Some((2, vec![2.0])));
        prefixes.insert(&[7, 2, 5], vec![9.0], &place);
        let mut found = |tokens: &[u32]| prefixes.longest(tokens).map(|(length, values, _)| (length, values.to_vec()));
        assert_eq!(found(&[7, 2, 5, 5]), Some((3, vec![9.0])));
        assert_eq!(found(&[7, 1, 5]), None);
        assert!(prefixes.bytes() <= 3 * own && prefixes.len() == 2, "{prefixes:?}");
        // The same again takes no more.
        let before = prefixes.bytes();
        prefixes.insert(&[7, 2, 5], vec![8.0], &place);
        assert_eq!((prefixes.bytes(), prefixes.len()), (before, 2));
        // What is larger than all the room is not kept.
        prefixes.insert(&[1; 1000], vec![0.0; 1000], &place);
        assert_eq!(prefixes.len(), 2);
    }
}
