//! Examples and the batches made of them: packed, longest first, so that nothing is computed of rows that are over.

use super::head::{Objective, Targets};
use super::spelling::{KINDS, features};
use crate::nn::segment::Segment;
use crate::rng::{Purpose, Rng};
use crate::train::shards::Shard;
use crate::train::task;

/// Examples in memory: sequences of tokens or of numbers, each with its label or labels, or with numbers to be said of it.
#[derive(Clone, Debug, Default)]
pub struct Sequences {
    /// The tokens of all, one behind the other; none of numbers.
    tokens: Vec<u32>,
    /// The numbers of all steps, `[steps, I]`, on their scale; none of tokens.
    numbers: Vec<f32>,
    /// I, the numbers of a step.
    width: usize,
    /// Where each begins, and where the last ends.
    starts: Vec<usize>,
    /// The labels of each, as numbers below C: ascending, or one for each token.
    labels: Vec<Vec<u32>>,
    /// The numbers that are to be said of each, on their scale.
    targets: Vec<Vec<f32>>,
    /// The rows of the spelling of each token, where it is read.
    spelling: Vec<[u32; KINDS]>,
}

impl Sequences {
    /// Adds an example of at least one token.
    pub(crate) fn push(&mut self, tokens: &[u32], labels: Vec<u32>) {
        debug_assert!(!tokens.is_empty());
        self.tokens.extend_from_slice(tokens);
        self.add(tokens.len(), labels);
    }

    /// Adds an example of at least one step of `width` numbers each.
    pub(crate) fn push_numbers(&mut self, numbers: &[f32], width: usize, labels: Vec<u32>) {
        debug_assert!(!numbers.is_empty() && numbers.len().is_multiple_of(width));
        self.width = width;
        self.numbers.extend_from_slice(numbers);
        self.add(numbers.len() / width, labels);
    }

    fn add(&mut self, steps: usize, labels: Vec<u32>) {
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.starts.push(self.total_tokens() + steps);
        self.labels.push(labels);
    }

    /// Says the numbers that are to be said of the example that was added last, on their scale.
    pub(crate) fn aim(&mut self, targets: Vec<f32>) {
        self.targets.push(targets);
    }

    /// Adds the spelling of the words of the example that was added last.
    pub(crate) fn spell<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        self.spelling.extend(words.map(features));
        // A text without words is a token all the same.
        self.spelling.resize(self.tokens.len(), [0; KINDS]);
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The tokens of an example.
    pub fn tokens(&self, example: usize) -> &[u32] {
        &self.tokens[self.starts[example]..self.starts[example + 1]]
    }

    /// The labels of an example.
    pub fn labels(&self, example: usize) -> &[u32] {
        &self.labels[example]
    }

    /// The numbers that are to be said of an example, on their scale; none where there are none.
    pub fn targets(&self, example: usize) -> &[f32] {
        self.targets.get(example).map_or(&[], Vec::as_slice)
    }

    /// The tokens of all; of numbers the steps.
    pub fn total_tokens(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The most tokens, or steps, of one.
    pub fn longest(&self) -> usize {
        self.starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    /// How often an epoch of so many rows a batch reads each example.
    fn readings(&self, rows: usize) -> usize {
        if self.width > 0 { LEAST_OF_EPOCH.saturating_mul(rows).div_ceil(self.len().max(1)) } else { 1 }
    }

    /// The batches of an epoch.
    pub(crate) fn batches_of_epoch(&self, rows: usize) -> usize {
        (self.readings(rows) * self.len()).div_ceil(rows.max(1))
    }

    fn length(&self, example: usize) -> usize {
        self.starts[example + 1] - self.starts[example]
    }

    /// A checksum of all of it.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(bytemuck::cast_slice(&self.tokens));
        self.starts.iter().for_each(|start| hasher.update(&(*start as u64).to_le_bytes()));
        for labels in &self.labels {
            hasher.update(&(labels.len() as u32).to_le_bytes());
            hasher.update(bytemuck::cast_slice(labels));
        }
        hasher.update(bytemuck::cast_slice(&self.numbers));
        self.targets.iter().for_each(|targets| hasher.update(bytemuck::cast_slice(targets)));
        format!("{:08x}", hasher.finalize())
    }
}

/// A batch of sequences, packed: N steps of B rows altogether, those of step t before those of step t + 1, the longest row first.
#[derive(Clone, Debug, Default)]
pub struct SequenceBatch {
    /// The examples of the rows.
    pub examples: Vec<usize>,
    /// The length of each row, falling.
    pub lengths: Vec<usize>,
    /// Where the rows of each step begin, and where the last's end: T + 1 numbers.
    pub starts: Vec<usize>,
    /// `[N]`; none of numbers.
    pub tokens: Vec<u32>,
    /// `[N, I]`: the numbers of each step; none of tokens.
    pub numbers: Vec<f32>,
    /// `[N]`: the rows of each token's spelling; empty where it is not read.
    pub spelling: Vec<[u32; KINDS]>,
    /// What the rows shall give.
    pub targets: Targets,
}

impl SequenceBatch {
    /// Makes it these examples, whose labels are those of `outputs` classes.
    pub(crate) fn fill(&mut self, data: &Sequences, examples: &[usize], objective: Objective, outputs: usize) {
        self.examples.clear();
        self.examples.extend_from_slice(examples);
        self.examples.sort_by_key(|example| std::cmp::Reverse(data.length(*example)));
        self.lengths.clear();
        self.lengths.extend(self.examples.iter().map(|example| data.length(*example)));
        self.tokens.clear();
        self.numbers.clear();
        self.spelling.clear();
        self.starts.clear();
        self.starts.push(0);
        let mut rows = self.examples.len();
        for step in 0..self.lengths.first().copied().unwrap_or(0) {
            while rows > 0 && self.lengths[rows - 1] <= step {
                rows -= 1;
            }
            let places = self.examples[..rows].iter().map(|example| data.starts[*example] + step);
            if data.width > 0 {
                let numbers = places.clone().flat_map(|at| &data.numbers[at * data.width..][..data.width]);
                self.numbers.extend(numbers);
            } else {
                self.tokens.extend(places.clone().map(|at| data.tokens[at]));
            }
            if !data.spelling.is_empty() {
                self.spelling.extend(places.map(|at| data.spelling[at]));
            }
            self.starts.push(self.starts[step] + rows);
        }
        let Targets { classes, values } = &mut self.targets;
        classes.clear();
        values.clear();
        if objective == Objective::Tags {
            for step in 0..self.starts.len() - 1 {
                let rows = self.examples[..self.starts[step + 1] - self.starts[step]].iter();
                // What is only predicted has none.
                classes.extend(rows.map(|example| data.labels(*example).get(step).copied().unwrap_or(0)));
            }
            return;
        }
        for example in &self.examples {
            let labels = data.labels(*example);
            match objective {
                // What is only predicted has none.
                Objective::Class | Objective::Tags => classes.push(labels.first().copied().unwrap_or(0)),
                Objective::Classes => {
                    let at = values.len();
                    values.resize(at + outputs, 0.0);
                    labels.iter().for_each(|label| values[at + *label as usize] = 1.0);
                }
                Objective::Numbers => {
                    let at = values.len();
                    values.resize(at + outputs, 0.0);
                    values[at..].iter_mut().zip(data.targets(*example)).for_each(|(to, target)| *to = *target);
                }
            }
        }
    }

    /// N, the steps of all rows.
    pub(crate) fn steps(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The shape that the layers run over.
    pub(crate) fn segment(&self) -> Segment<'_> {
        let (steps, batch) = (self.starts.len() - 1, self.examples.len());
        Segment { steps, batch, lengths: None, packed: Some(&self.starts) }
    }
}

/// The batches whose rows are sorted by length among themselves: so few rows of a batch are over before its last step.
const POOL: usize = 32;

/// The fewest batches of an epoch of numbers: few sequences are read several times in one, so that a validation comes after something was
/// learned.
const LEAST_OF_EPOCH: usize = 20;

/// The batches of an epoch, or of a pass over all of it in order of length.
#[derive(Clone, Debug)]
pub struct SequenceBatches<'a> {
    data: &'a Sequences,
    objective: Objective,
    outputs: usize,
    /// The examples of each batch.
    batches: Vec<Vec<usize>>,
}

impl<'a> SequenceBatches<'a> {
    /// Those of `epoch` by this `seed`: shuffled, and of about the same length within a batch.
    pub(crate) fn of_epoch(
        data: &'a Sequences,
        rows: usize,
        (objective, outputs): (Objective, usize),
        seed: u64,
        epoch: usize,
    ) -> Self {
        let mut rng = Rng::new(seed, Purpose::Shuffle, epoch as u64);
        let mut order: Vec<usize> = Vec::new();
        for _ in 0..data.readings(rows) {
            let mut once: Vec<usize> = (0..data.len()).collect();
            rng.shuffle(&mut once);
            order.append(&mut once);
        }
        for pool in order.chunks_mut(POOL * rows) {
            pool.sort_by_key(|example| data.length(*example));
        }
        let mut batches: Vec<Vec<usize>> = order.chunks(rows).map(<[usize]>::to_vec).collect();
        rng.shuffle(&mut batches);
        Self { data, objective, outputs, batches }
    }

    /// All examples once, sorted by length.
    pub(crate) fn of_all(data: &'a Sequences, rows: usize, (objective, outputs): (Objective, usize)) -> Self {
        let mut order: Vec<usize> = (0..data.len()).collect();
        order.sort_by_key(|example| data.length(*example));
        let batches = order.chunks(rows).map(<[usize]>::to_vec).collect();
        Self { data, objective, outputs, batches }
    }
}

impl task::Batches<SequenceBatch> for SequenceBatches<'_> {
    fn count(&self) -> usize {
        self.batches.len()
    }

    fn fill(&self, number: usize, batch: &mut SequenceBatch) {
        batch.fill(self.data, &self.batches[number], self.objective, self.outputs);
    }

    fn cut(&self, number: usize, _whole: &SequenceBatch, shard: Shard, part: &mut SequenceBatch) -> bool {
        let examples = &self.batches[number];
        let rows = shard.rows(examples.len());
        part.fill(self.data, &examples[rows.clone()], self.objective, self.outputs);
        !rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::task::Batches as _;

    fn sequences() -> Sequences {
        let mut data = Sequences::default();
        for example in 0..23_u32 {
            let tokens: Vec<u32> = (0..1 + example * 7 % 5).map(|step| 100 * example + step).collect();
            data.push(&tokens, vec![example % 3]);
        }
        data
    }

    #[test]
    fn a_batch_is_packed_longest_first_and_every_token_stands_where_its_step_is() {
        let data = sequences();
        let mut batch = SequenceBatch::default();
        batch.fill(&data, &[3, 4, 0, 7], Objective::Class, 3);
        assert_eq!(batch.lengths, [5, 4, 2, 1]);
        assert_eq!((&batch.examples[..], &batch.targets.classes[..]), (&[7, 4, 3, 0][..], &[1, 1, 0, 0][..]));
        assert_eq!(batch.starts, [0, 4, 7, 9, 11, 12]);
        assert_eq!(batch.tokens, [700, 400, 300, 0, 701, 401, 301, 702, 402, 703, 403, 704]);
        batch.fill(&data, &[5, 1], Objective::Classes, 3);
        assert_eq!(batch.targets.values, [0., 1., 0., 0., 0., 1.]);
    }

    #[test]
    fn numbers_stand_where_their_steps_are_beside_what_is_to_be_said() {
        let mut data = Sequences::default();
        for (numbers, target) in [(&[1., 2.][..], 5.), (&[3., 4., 5., 6.], 7.)] {
            data.push_numbers(numbers, 2, Vec::new());
            data.aim(vec![target]);
        }
        let mut batch = SequenceBatch::default();
        batch.fill(&data, &[0, 1], Objective::Numbers, 1);
        assert_eq!((&batch.lengths[..], &batch.starts[..]), (&[2, 1][..], &[0, 2, 3][..]));
        assert_eq!((&batch.numbers[..], &batch.targets.values[..]), (&[3., 4., 1., 2., 5., 6.][..], &[7., 5.][..]));
    }

    #[test]
    fn an_epoch_has_every_example_once_in_an_order_of_its_own() {
        let data = sequences();
        let of = |epoch| SequenceBatches::of_epoch(&data, 4, (Objective::Class, 3), 1, epoch).batches;
        assert_eq!(of(0), of(0));
        assert_ne!(of(0), of(1));
        let all = SequenceBatches::of_all(&data, 4, (Objective::Class, 3));
        for batches in [of(0), all.batches.clone()] {
            let mut seen = batches.concat();
            assert_eq!(batches.len(), 6);
            seen.sort_unstable();
            assert_eq!(seen, (0..23).collect::<Vec<_>>());
        }
        assert_eq!(all.count(), 6);
        // Of few sequences of numbers several times, each as often as the others.
        let mut data = Sequences::default();
        (0..7).for_each(|at| data.push_numbers(&[at as f32], 1, vec![0]));
        let batches = SequenceBatches::of_epoch(&data, 2, (Objective::Class, 2), 1, 0).batches;
        let mut times = [0; 7];
        batches.concat().iter().for_each(|example| times[*example] += 1);
        assert_eq!((batches.len(), times), (21, [6; 7]));
    }
}
