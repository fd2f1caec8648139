//! A trained model's loss on a text.

use lstm_kernels::log_sum_exp;

use crate::model::{LanguageModel, LanguageTape, Loss, Predicted};
use crate::nn::params::Params;
use crate::nn::precision::Weights;
use crate::nn::state::State;
use crate::run::error::TrainError;
use crate::run::saved::LoadedRun;
use crate::text::TextError;
use crate::text::batch::{Batch, Batches, Batching, NO_TARGET};
use crate::text::corpus::Corpus;
use crate::text::tokenizer::Tokenizer;

/// T, the steps of a pass: longer than in training, because nothing is kept for a backward pass and larger products
/// are faster.
pub(crate) const SEGMENT: usize = 256;

/// T of a stream that is read in columns, which are more rows.
pub(crate) const COLUMN_SEGMENT: usize = 64;

/// The most columns of a stream: whole tiles of every instruction set, and enough that the weights are read from cache or
/// memory seldom.
pub(crate) const COLUMNS: usize = 12;

/// The fewest tokens of a column, several times as many as most models remember.
pub(crate) const LEAST_COLUMN: usize = 2048;

/// The mean change of a segment's surprisals, in nats, from which on the rest changes nothing that is shown: of two layers
/// of 512 on the Penn Treebank it was 0.19 for the first 64 tokens and halved with every 64, so that 500 tokens were read
/// again and the mean of all came out right to 7 · 10⁻⁷ nats.
const CONVERGED: f32 = 1e-3;

/// The loss of a text that is read one token at a time, as texts are generated, with these weights. `each` is told the
/// loss so far, now and then.
///
/// # Errors
/// A text without anything to predict, a model that cannot be run token by token.
pub fn by_steps(
    run: &LoadedRun,
    corpus: &Corpus,
    weights: Weights,
    each: &mut dyn FnMut(Loss),
) -> Result<Loss, TrainError> {
    let batches = Batches::evaluation(corpus, &run.tokenizer, run.config.batching, 1, SEGMENT)?;
    let mut stream = run.model.stream_with(&run.params, 1, weights)?;
    let (mut batch, mut total) = (Batch::default(), Loss::default());
    for number in 0..batches.len() {
        batches.get(number, &mut batch);
        if batch.fresh || !batch.restarts.is_empty() {
            stream.streams_mut().reset(0);
        }
        let steps = batch.lengths.as_ref().map_or(batch.steps, |lengths| lengths[0]);
        for (&token, &target) in batch.tokens.iter().zip(&batch.targets).take(steps) {
            let logits = stream.step(&[token]);
            if target != NO_TARGET {
                let nll = log_sum_exp(logits, 1.0) - f64::from(logits[target as usize]);
                total.add(Loss { nll, tokens: 1 });
            }
        }
        each(total);
    }
    Ok(total)
}

/// A pass over a whole text, batch by batch: every token is predicted once. Windows and lines start from a zero state
/// each. Of a stream the state is carried from the first token to the last; how it is read in columns all the same is
/// said at [`Evaluation::new`].
pub struct Evaluation<'a> {
    model: &'a LanguageModel,
    params: &'a Params,
    batches: Batches<'a>,
    next: usize,
    state: State,
    tape: LanguageTape,
    batch: Batch,
    surprisal: Vec<f32>,
    total: Loss,
    reading: Reading,
}

/// The surprisal of a place of a text where nothing is predicted, as at the beginning of the lines of windows.
const NOTHING: f32 = f32::NEG_INFINITY;

/// The surprisals of the predicted tokens of a text, in its order, whatever way it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Surprisals {
    /// In nats, by the places of the text.
    by_place: Vec<f32>,
    /// Their sum, as evaluation gives it.
    total: Loss,
}

impl Surprisals {
    /// The surprisal of every predicted token, in nats.
    pub fn iter(&self) -> impl Iterator<Item = f32> {
        self.by_place.iter().copied().filter(|&nats| nats != NOTHING)
    }

    /// The loss of all of them.
    pub fn total(&self) -> Loss {
        self.total
    }
}

/// How the text is being read.
enum Reading {
    /// Once and for all.
    Once,
    /// In columns that begin with zeros. The surprisals so far, up to the middle, in the order of the batches.
    Columns(Vec<f32>),
    /// In columns again, each from the end of the one before it. What the surprisals of the batches to come were.
    Again(std::vec::IntoIter<f32>),
}

impl<'a> Evaluation<'a> {
    /// Before the first batch: windows or lines `rows` at a time, a long stream in columns.
    ///
    /// Columns side by side are up to several times as fast as one row, but each begins with the state in which the one
    /// before it ends, which is known only then. So all begin with zeros, and are read again with the states found until
    /// the surprisals are those of the first reading: until the model forgot how it began, mostly within some hundred
    /// tokens. What is found is that of one row, but for rounding and less than 10⁻⁶ nats a token. The text of a model
    /// that does not forget by the middle of its columns is read in one row.
    ///
    /// # Errors
    /// A text without anything to predict.
    pub fn new(
        model: &'a LanguageModel,
        params: &'a Params,
        tokenizer: &'a Tokenizer,
        corpus: &'a Corpus,
        batching: Batching,
        rows: usize,
    ) -> Result<Self, TextError> {
        let columns = (corpus.ids.len() / LEAST_COLUMN).min(COLUMNS);
        let (rows, segment, reading) = match batching {
            // Rows begin with documents, so the state they begin with is known.
            Batching::Stream if !corpus.document_starts.is_empty() => (columns.max(1), SEGMENT, Reading::Once),
            Batching::Stream if columns > 1 => (columns, COLUMN_SEGMENT, Reading::Columns(Vec::new())),
            Batching::Stream => (1, SEGMENT, Reading::Once),
            _ => (rows, SEGMENT, Reading::Once),
        };
        let batches = Batches::evaluation(corpus, tokenizer, batching, rows, segment)?;
        Ok(Self::of(model, params, batches, reading))
    }

    /// The same in the order of the text, one row at a time.
    ///
    /// # Errors
    /// A text without anything to predict.
    pub fn in_order(
        model: &'a LanguageModel,
        params: &'a Params,
        tokenizer: &'a Tokenizer,
        corpus: &'a Corpus,
        batching: Batching,
    ) -> Result<Self, TextError> {
        let batches = Batches::evaluation(corpus, tokenizer, batching, 1, SEGMENT)?;
        Ok(Self::of(model, params, batches, Reading::Once))
    }

    /// A stream of lines in order, each from a zero state; all but the first begin at `starts`.
    pub(crate) fn of_lines(
        model: &'a LanguageModel,
        params: &'a Params,
        tokenizer: &'a Tokenizer,
        corpus: &'a Corpus,
        starts: Vec<usize>,
    ) -> Self {
        Self::of(model, params, Batches::of_starts(corpus, tokenizer, starts, SEGMENT), Reading::Once)
    }

    /// The same, with the places of the predicted tokens, [`Self::places`].
    pub(crate) fn placed(mut self) -> Self {
        self.batches = self.batches.placed();
        self
    }

    /// The same, with the rank of each token.
    pub(crate) fn ranked(mut self) -> Self {
        self.tape.rank();
        self
    }

    fn of(model: &'a LanguageModel, params: &'a Params, batches: Batches<'a>, reading: Reading) -> Self {
        Self {
            model,
            params,
            next: 0,
            state: model.state(batches.rows()),
            tape: model.frozen_tape(),
            batch: Batch::default(),
            surprisal: Vec::new(),
            total: Loss::default(),
            reading,
            batches,
        }
    }

    /// Evaluates the next batch; false when there is none.
    pub fn advance(&mut self) -> bool {
        if self.next == self.batches.len() && !self.begin_again() {
            return false;
        }
        self.batches.get(self.next, &mut self.batch);
        self.batch.fresh &= !matches!(self.reading, Reading::Again(_));
        self.next += 1;
        self.surprisal.clear();
        let loss =
            self.model.evaluate(self.params, &self.batch, &mut self.state, &mut self.tape, Some(&mut self.surprisal));
        match &mut self.reading {
            Reading::Once => self.total.add(loss),
            Reading::Columns(surprisal) => {
                self.total.add(loss);
                // They are read again to their middle at most.
                if self.next <= self.batches.len() / 2 + 1 {
                    surprisal.extend_from_slice(&self.surprisal);
                }
            }
            Reading::Again(known) => {
                let (mut before, mut change) = (0.0, 0.0);
                // In this order none is taken that has no partner.
                for (now, known) in self.surprisal.iter().zip(known) {
                    before += f64::from(known);
                    change += (known - now).abs();
                }
                self.total.nll += loss.nll - before;
                self.stop_if_converged(change);
            }
        }
        true
    }

    /// Goes back to the beginning of columns that were read once, with the states in which those before them end; false
    /// where there is nothing to read again.
    fn begin_again(&mut self) -> bool {
        let Reading::Columns(surprisal) = &mut self.reading else { return false };
        self.reading = Reading::Again(std::mem::take(surprisal).into_iter());
        self.state.hand_down();
        self.next = 0;
        true
    }

    /// Ends the reading if the last batch changed its surprisals by so little in all; begins it anew in one row if the
    /// columns have been read again to their middle.
    fn stop_if_converged(&mut self, change: f32) {
        if change <= CONVERGED * self.surprisal.len() as f32 {
            self.next = self.batches.len();
            self.reading = Reading::Once;
        } else if self.next > self.batches.len() / 2 {
            self.batches = self.batches.clone().in_order(SEGMENT);
            (self.state, self.next, self.total) = (self.model.state(1), 0, Loss::default());
            self.reading = Reading::Once;
        }
    }

    /// The predicted tokens of the last batch with their surprisal in nats, in the order of its positions; those at the
    /// beginning of columns come twice.
    pub fn predicted(&self) -> impl Iterator<Item = (u32, f32)> {
        let targets = self.batch.targets.iter().copied().filter(|&target| target != NO_TARGET);
        targets.zip(self.surprisal.iter().copied())
    }

    /// Where the predicted tokens of the last batch stand, if that was asked for.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        let pairs = self.batch.targets.iter().zip(&self.batch.places);
        pairs.filter(|(target, _)| **target != NO_TARGET).map(|(_, &place)| place)
    }

    /// Evaluates what is left of the text and gives every surprisal; `each` is told the loss so far. `places`: those of the text,
    /// [`Batches::places`].
    pub(crate) fn surprisals(self, places: usize, each: &mut dyn FnMut(Loss)) -> Surprisals {
        let (mut pass, mut by_place) = (self.placed(), vec![NOTHING; places]);
        while pass.advance() {
            // What is read again replaces what was there.
            pass.places().zip(&pass.surprisal).for_each(|(place, &nats)| by_place[place] = nats);
            each(pass.total);
        }
        Surprisals { by_place, total: pass.total }
    }

    /// The ranks of the predicted tokens of the last batch, 1 for the likeliest, if they were asked for.
    pub(crate) fn ranks(&self) -> &[u32] {
        self.tape.ranks()
    }

    /// The predicted positions of the last batch with the outputs they were predicted from.
    pub(crate) fn scored(&self) -> Predicted<'_> {
        self.tape.predicted()
    }

    /// The tokens that the whole pass predicts.
    pub(crate) fn tokens(&self) -> usize {
        self.batches.predicted()
    }

    /// The loss so far.
    pub fn total(&self) -> Loss {
        self.total
    }

    /// Evaluates what is left of the text.
    pub fn finish(mut self) -> Loss {
        while self.advance() {}
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::config::{Init, InitScheme};
    use crate::run::preset::Preset;
    use crate::text::source::Source;
    use crate::text::tokenizer::{TokenizerKind, VocabularyOptions};

    /// The loss of an untrained model with this forget bias on 10,000 tokens: read in columns, with the rows of the last pass,
    /// and in one row.
    fn losses(forget_bias: f32) -> ((Loss, usize), Loss) {
        let text: String = (0..10_000).map(|i| format!("w{} ", (i * i) % 17 % 11)).collect();
        let source = Source::from_text(&text);
        let options = VocabularyOptions { min_count: Some(1), ..VocabularyOptions::default() };
        let tokenizer = Tokenizer::build(TokenizerKind::Words, &source, options, false).unwrap();
        let corpus = Corpus::read(&source, &tokenizer, false).unwrap();
        let mut config = Preset::Default.config().model;
        (config.lstm.hidden, config.lstm.input, config.vocabulary) = (24.into(), 16, tokenizer.vocabulary_size());
        let model = LanguageModel::new(config).unwrap();
        let init = Init { scheme: InitScheme::Uniform(0.1), forget_bias: Some(forget_bias) };
        let params = model.initialise(&init, 1);
        let mut columns = Evaluation::new(&model, &params, &tokenizer, &corpus, Batching::Stream, 1).unwrap();
        let row = Evaluation::in_order(&model, &params, &tokenizer, &corpus, Batching::Stream).unwrap();
        while columns.advance() {}
        ((columns.total(), columns.batches.rows()), row.finish())
    }

    #[test]
    fn columns_of_a_stream_give_what_one_row_gives() {
        let ((columns, rows), row) = losses(1.0);
        assert_eq!((rows, columns.tokens), (4, row.tokens));
        assert!((columns.mean() - row.mean()).abs() < 1e-6, "{} {}", columns.mean(), row.mean());
    }

    /// A document costs the same wherever it stands, alone or among others, in one row or in many.
    #[test]
    fn documents_do_not_see_each_other() {
        use crate::text::documents::Reading;
        let reading = Reading { documents: Some("%%".parse().unwrap()), ..Reading::default() };
        let document = |n: usize| {
            let words: String = (0..1 + n * 7 % 90).map(|i| format!("w{} ", (i * n) % 13 % 7)).collect();
            format!("{words}\n%%\n")
        };
        let documents: Vec<String> = (0..300).map(document).collect();
        let whole = Source::from_text(&documents.concat()).read_as(&reading);
        let options = VocabularyOptions { min_count: Some(1), ..VocabularyOptions::default() };
        let tokenizer = Tokenizer::build(TokenizerKind::Words, &whole, options, false).unwrap();
        let mut config = Preset::Default.config().model;
        (config.lstm.hidden, config.lstm.input, config.vocabulary) = (24.into(), 16, tokenizer.vocabulary_size());
        let model = LanguageModel::new(config).unwrap();
        let params = model.initialise(&Init { scheme: InitScheme::Uniform(0.5), forget_bias: Some(4.0) }, 1);
        let read = |source: &Source| Corpus::read(source, &tokenizer, false).unwrap();
        let alone = |text: &String| {
            let corpus = read(&Source::from_text(text));
            Evaluation::in_order(&model, &params, &tokenizer, &corpus, Batching::Stream).unwrap().finish().nll
        };
        let expected: f64 = documents.iter().map(alone).sum();
        let corpus = read(&whole);
        let rows = Evaluation::new(&model, &params, &tokenizer, &corpus, Batching::Stream, 1).unwrap();
        assert!(rows.batches.rows() > 3);
        let row = Evaluation::in_order(&model, &params, &tokenizer, &corpus, Batching::Stream).unwrap();
        for loss in [rows.finish(), row.finish()] {
            assert_eq!(loss.tokens, corpus.ids.len());
            assert!((loss.nll / expected - 1.0).abs() < 1e-6, "{} {expected}", loss.nll);
        }
        let carried = read(&whole.read_as(&Reading::default()));
        let carried = Evaluation::in_order(&model, &params, &tokenizer, &carried, Batching::Stream).unwrap().finish();
        assert!((carried.nll / expected - 1.0).abs() > 1e-4, "{} {expected}", carried.nll);
    }

    #[test]
    fn a_model_that_does_not_forget_is_evaluated_in_one_row() {
        // A forget gate of exactly 1: the cells only ever add.
        let (columns, row) = losses(50.0);
        assert_eq!(columns, (row, 1));
    }
}
