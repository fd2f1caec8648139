//! Tunes adaptation on a validation text: a cache over a grid, all of it in one pass; dynamic evaluation setting by
//! setting, each as long as it helps.

use super::Scorer;
use super::cache::{Cache, mixed};
use super::dynamic::GradientScale;
use super::settings::{CacheSettings, DynamicSettings};
use crate::model::Loss;
use crate::run::saved::LoadedRun;
use crate::text::TextError;
use crate::text::corpus::Corpus;

/// The grid of the cache: around the best, perplexities on the Penn Treebank differ by a hundredth from cell to cell.
const THETAS: [f32; 9] = [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0];
const WINDOWS: [usize; 6] = [100, 200, 500, 1000, 2000, 4000];
const WEIGHTS: [f32; 12] = [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4];

/// The most tokens of the validation text for the grid, for the grid beside dynamic evaluation, which takes some twenty
/// times as long, and for each trial of dynamic evaluation.
const GRID_TOKENS: usize = 100_000;
const DYNAMIC_GRID_TOKENS: usize = 40_000;
const TRIAL_TOKENS: usize = 10_000;

/// Where the search of dynamic evaluation starts: near the best for one layer of 200 on the Penn Treebank, a
/// perplexity of 128.5 on 10,000 tokens where the model as it is has 157.1.
const START: DynamicSettings = DynamicSettings { rate: 4e-4, decay: 5e-3, segment: 20, columns: 1 };

/// An event of the tuning.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// Tokens done of those of a pass that takes long.
    Pass {
        /// Done.
        tokens: usize,
        /// All.
        of: usize,
    },
    /// A trial of dynamic evaluation is over.
    Tried(Trial),
}

/// Settings of dynamic evaluation and what they gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The settings.
    pub settings: DynamicSettings,
    /// The loss on the share of the text; one that is not a number if it learned too fast.
    pub loss: Loss,
}

/// The losses of a grid of cache settings.
#[derive(Clone, Debug)]
pub struct CacheGrid {
    /// The values of θ.
    pub thetas: Vec<f32>,
    /// The windows.
    pub windows: Vec<usize>,
    /// The tokens it was measured on.
    pub tokens: usize,
    /// nll `[θ, W, λ]`, in nats.
    nll: Vec<f64>,
}

impl CacheGrid {
    /// The best λ for a θ and a window, by their places, and the loss with it.
    pub fn cell(&self, theta: usize, window: usize) -> (CacheSettings, Loss) {
        let start = (theta * self.windows.len() + window) * WEIGHTS.len();
        let (weight, nll) = lowest(&self.nll[start..start + WEIGHTS.len()]);
        let settings =
            CacheSettings { theta: self.thetas[theta], weight: WEIGHTS[weight], window: self.windows[window] };
        (settings, Loss { nll, tokens: self.tokens })
    }

    /// The loss without a cache.
    pub fn plain(&self) -> Loss {
        Loss { nll: self.nll[0], tokens: self.tokens }
    }

    /// The best of all; of equals the first, which is the cheapest.
    pub fn best(&self) -> (CacheSettings, Loss) {
        let cells = self.thetas.len() * self.windows.len();
        let all: Vec<_> = (0..cells).map(|i| self.cell(i / self.windows.len(), i % self.windows.len())).collect();
        let losses: Vec<f64> = all.iter().map(|(_, loss)| loss.nll).collect();
        all[lowest(&losses).0]
    }
}

/// The place of the lowest value, the first of equals, and the value.
fn lowest(values: &[f64]) -> (usize, f64) {
    let mut best = (0, f64::INFINITY);
    for (place, &value) in values.iter().enumerate() {
        if value < best.1 {
            best = (place, value);
        }
    }
    best
}

/// Tunes a cache on `text`, or on its first 100,000 tokens: beside the trained model, or, with `dynamic`, beside one that
/// goes on learning, and then on its first 40,000.
///
/// # Errors
/// A text without anything to predict.
pub fn tune_cache(
    run: &LoadedRun,
    text: &Corpus,
    dynamic: Option<(&GradientScale, DynamicSettings)>,
    watch: &mut dyn FnMut(Event),
) -> Result<CacheGrid, TextError> {
    let mut scorer = Scorer::new(run, text, dynamic)?;
    let most = dynamic.map_or(GRID_TOKENS, |(_, settings)| DYNAMIC_GRID_TOKENS.saturating_mul(settings.columns));
    let of = scorer.tokens().min(most);
    // A window that holds the whole text is as good as any longer one.
    let whole = WINDOWS.iter().position(|&window| window >= of).unwrap_or(WINDOWS.len() - 1);
    let windows = &WINDOWS[..=whole];
    let (width, vocabulary) = (run.model.output_size(), run.model.config().vocabulary);
    let mut caches = vec![Cache::new(width, vocabulary, &THETAS, windows); scorer.columns()];
    let pairs = THETAS.len() * windows.len();
    let (mut shares, mut nll, mut tokens) = (Vec::new(), vec![0.0; pairs * WEIGHTS.len()], 0);
    while tokens < of && scorer.advance() {
        for (column, cache) in caches.iter_mut().enumerate() {
            let predicted = scorer.scored(column);
            cache.read(predicted, &mut shares);
            for (&own, shares) in predicted.nll.iter().zip(shares.chunks_exact(pairs)) {
                for (&share, nll) in shares.iter().zip(nll.chunks_exact_mut(WEIGHTS.len())) {
                    nll.iter_mut().zip(WEIGHTS).for_each(|(nll, weight)| *nll += mixed(own, share, weight));
                }
            }
            tokens += predicted.targets.len();
        }
        watch(Event::Pass { tokens: tokens.min(of), of });
    }
    Ok(CacheGrid { thetas: THETAS.to_vec(), windows: windows.to_vec(), tokens, nll })
}

/// Tunes dynamic evaluation in so many columns on the first 10,000 tokens of each of them, or all, one setting after the other, each
/// followed as long as it helps: rate, decay, segment, and once more the rate. A rate of 0 comes back where nothing beats the model as it is.
///
/// # Errors
/// A text without anything to predict.
pub fn tune_dynamic(
    run: &LoadedRun,
    text: &Corpus,
    scale: &GradientScale,
    columns: usize,
    watch: &mut dyn FnMut(Event),
) -> Result<Trial, TextError> {
    let start = DynamicSettings { columns, ..START };
    let still = DynamicSettings { rate: 0.0, decay: 0.0, ..start };
    // The same tokens as those of the trials.
    let scorer = Scorer::new(run, text, (columns > 1).then_some((scale, still)))?;
    let plain = Trial { settings: still, loss: first_tokens(scorer, &mut |_| ()) };
    watch(Event::Tried(plain));
    let mut search = Search { run, text, scale, watch, best: Trial { settings: start, loss: NOTHING } };
    search.improves(start)?;
    search.one_way_or_other(6, |s, up| DynamicSettings { rate: s.rate * if up { 2.0 } else { 0.5 }, ..s })?;
    search.one_way_or_other(4, |s, up| DynamicSettings { decay: s.decay * if up { 2.0 } else { 0.5 }, ..s })?;
    // Half the segment takes twice the time and gains little: 129.8 instead of 130.3 from 20 to 10, 129.7 with 5.
    search.one_way_or_other(1, |s, up| {
        // What is learned from as many tokens stays the same.
        let segment = if up { s.segment * 2 } else { (s.segment / 2).max(1) };
        let factor = segment as f32 / s.segment as f32;
        DynamicSettings { rate: s.rate * factor, decay: s.decay * factor, segment, ..s }
    })?;
    search.one_way_or_other(2, |s, up| DynamicSettings { rate: s.rate * if up { 1.4 } else { 1.0 / 1.4 }, ..s })?;
    Ok(if search.best.loss.nll < plain.loss.nll { search.best } else { plain })
}

/// A loss that every other is better than.
const NOTHING: Loss = Loss { nll: f64::INFINITY, tokens: 1 };

/// The loss on the first tokens of a text, as many as a trial takes.
fn first_tokens(mut scorer: Scorer, watch: &mut dyn FnMut(Event)) -> Loss {
    let of = scorer.tokens().min(TRIAL_TOKENS.saturating_mul(scorer.columns()));
    let mut loss = Loss::default();
    while loss.tokens < of && loss.nll.is_finite() && scorer.advance() {
        for column in 0..scorer.columns() {
            // Blocks differ in size between settings, what is compared must not.
            let all = scorer.scored(column).nll;
            let nll = &all[..all.len().min(of - loss.tokens)];
            loss.add(Loss { nll: nll.iter().map(|&nll| f64::from(nll)).sum(), tokens: nll.len() });
        }
        watch(Event::Pass { tokens: loss.tokens, of });
    }
    loss
}

struct Search<'a> {
    run: &'a LoadedRun,
    text: &'a Corpus,
    scale: &'a GradientScale,
    watch: &'a mut dyn FnMut(Event),
    best: Trial,
}

impl Search<'_> {
    /// Tries settings and keeps them if they are better, or if nothing so far gave a number.
    fn improves(&mut self, settings: DynamicSettings) -> Result<bool, TextError> {
        let scorer = Scorer::new(self.run, self.text, Some((self.scale, settings)))?;
        let trial = Trial { settings, loss: first_tokens(scorer, self.watch) };
        (self.watch)(Event::Tried(trial));
        let better = trial.loss.nll < self.best.loss.nll || !self.best.loss.nll.is_finite();
        if better {
            self.best = trial;
        }
        Ok(better)
    }

    /// Follows a change downwards as long as it helps, for `steps` at most, or, if it does not, upwards. Downwards first:
    /// out of a rate that breaks the model there is only that way.
    fn one_way_or_other(
        &mut self,
        steps: usize,
        change: impl Fn(DynamicSettings, bool) -> DynamicSettings,
    ) -> Result<(), TextError> {
        for up in [false, true] {
            let start = self.best.settings;
            for _ in 0..steps {
                let next = change(self.best.settings, up);
                if next == self.best.settings || !self.improves(next)? {
                    break;
                }
            }
            if self.best.settings != start {
                break;
            }
        }
        Ok(())
    }
}
