//! A trained model that stays as it is, in the order of the text: a stream is read in columns, as it is evaluated, and handed on in order,
//! so that a cache that looks back costs no slower reading.

use crate::evaluate::Evaluation;
use crate::free_memory::{free_memory, times};
use crate::model::Predicted;
use crate::run::saved::LoadedRun;
use crate::text::TextError;
use crate::text::batch::Batching;
use crate::text::corpus::Corpus;

/// The most bytes of outputs that are kept until a text is read: two million tokens of a model of 128 units, half a million of 512. A longer
/// text is read in one row.
const MOST_KEPT: u64 = 1 << 30;

/// The tokens that are handed on at a time.
const BLOCK: usize = 1024;

/// A pass over a text, in its order.
pub(super) struct Frozen<'a> {
    evaluation: Evaluation<'a>,
    /// What is kept of a text that is read in columns.
    kept: Option<Kept>,
}

/// A text that is read in columns: by place what was predicted there.
struct Kept {
    width: usize,
    outputs: Vec<f32>,
    targets: Vec<u32>,
    nll: Vec<f32>,
    /// The places that have been handed on and are being, once all is read.
    handed: Option<(usize, usize)>,
}

impl<'a> Frozen<'a> {
    /// Before the first token.
    ///
    /// # Errors
    /// A text without anything to predict.
    pub(super) fn new(run: &'a LoadedRun, corpus: &'a Corpus) -> Result<Self, TextError> {
        let LoadedRun { config, tokenizer, model, params, .. } = run;
        let (batching, rows, width) = (config.batching, config.training.batch, model.output_size());
        let new = || Evaluation::new(model, params, tokenizer, corpus, batching, rows);
        let (tokens, bytes) = (corpus.ids.len(), times(&[corpus.ids.len(), width + 2, size_of::<f32>()]));
        let fits = bytes <= u128::from(free_memory().map_or(MOST_KEPT, |free| MOST_KEPT.min(free / 2)));
        let (evaluation, kept) = match batching {
            // Side by side they come in order too, for each predicts one token.
            Batching::Windows(_) => (new()?, None),
            Batching::Stream if fits => {
                let (outputs, targets, nll) = (vec![0.0; tokens * width], vec![0; tokens], vec![0.0; tokens]);
                (new()?.placed(), Some(Kept { width, outputs, targets, nll, handed: None }))
            }
            _ => (Evaluation::in_order(model, params, tokenizer, corpus, batching)?, None),
        };
        Ok(Self { evaluation, kept })
    }

    /// Goes on; false when all is handed on. While columns are read nothing is.
    pub(super) fn advance(&mut self) -> bool {
        let Some(kept) = &mut self.kept else { return self.evaluation.advance() };
        if kept.handed.is_none() {
            if self.evaluation.advance() {
                kept.keep(&self.evaluation);
                return true;
            }
            kept.handed = Some((0, 0));
        }
        let next = kept.handed.map_or(0, |(_, end)| end);
        let end = kept.targets.len().min(next + BLOCK);
        kept.handed = Some((next, end));
        next < end
    }

    /// What was handed on last.
    pub(super) fn scored(&self) -> Predicted<'_> {
        let Some(kept) = &self.kept else { return self.evaluation.scored() };
        let (start, end) = kept.handed.unwrap_or_default();
        Predicted {
            outputs: &kept.outputs[start * kept.width..end * kept.width],
            targets: &kept.targets[start..end],
            nll: &kept.nll[start..end],
        }
    }

    /// The tokens that the whole pass predicts.
    pub(super) fn tokens(&self) -> usize {
        self.evaluation.tokens()
    }
}

impl Kept {
    /// Keeps the last batch; what is read again replaces what was there.
    fn keep(&mut self, evaluation: &Evaluation) {
        let Predicted { outputs, targets, nll } = evaluation.scored();
        let rows = outputs.chunks_exact(self.width).zip(targets).zip(nll);
        for (place, ((output, &target), &nll)) in evaluation.places().zip(rows) {
            self.outputs[place * self.width..][..self.width].copy_from_slice(output);
            (self.targets[place], self.nll[place]) = (target, nll);
        }
    }
}
