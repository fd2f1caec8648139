//! The continuous cache (Grave, Joulin & Usunier 2017): what followed where the model's output was like it is now is
//! likely to follow again.
//!
//! With hₜ the output from which word wₜ₊₁ is predicted, and W the window,
//!
//! ```text
//! p_cache(w) ∝ Σ over the last W positions i of 1[w_{i+1} = w] · exp(θ hₜ·hᵢ)
//! p(w) = (1 - λ) p_model(w) + λ p_cache(w)
//! ```
//!
//! Only the probability of the word that came is needed, so nothing here has the size of the vocabulary but a note of
//! where each word was last. All hₜ·hᵢ of a block are one matrix product.

use lstm_kernels::{Aligned, Matrix, MatrixMut, Start, for_each_chunk, log_sum_exp, product};

use crate::model::Predicted;

/// The most products hₜ·hᵢ at a time (16 MiB).
const DOTS: usize = 1 << 22;

/// The cache of one text, for any number of θ and W at once: the products are the same for all.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    width: usize,
    thetas: Vec<f32>,
    /// Ascending.
    windows: Vec<usize>,
    /// The entries of the cache, oldest first: outputs `[kept, R]`, and how many positions back the same word was last predicted, 0
    /// where never.
    outputs: Vec<f32>,
    back: Vec<usize>,
    /// The positions no longer kept.
    forgotten: usize,
    /// `[V]`: one more than the position at which each word was last predicted, 0 where never.
    latest: Vec<usize>,
    dots: Aligned,
}

impl Cache {
    /// An empty cache for outputs of `width` values and words below `vocabulary`, to be asked for every pair of `thetas`
    /// and `windows`, which ascend. θ is not negative, W not 0.
    pub(crate) fn new(width: usize, vocabulary: usize, thetas: &[f32], windows: &[usize]) -> Self {
        Self {
            width,
            thetas: thetas.to_vec(),
            windows: windows.to_vec(),
            outputs: Vec::new(),
            back: Vec::new(),
            forgotten: 0,
            latest: vec![0; vocabulary],
            dots: Aligned::new(),
        }
    }

    /// Reads the next positions of the text. shares: `[rows, θ, W]`, out: p_cache of the word that came at each, from what
    /// came before it. An empty cache agrees with the model.
    pub(crate) fn read(&mut self, predicted: Predicted, shares: &mut Vec<f32>) {
        let Predicted { outputs, targets, nll } = predicted;
        let (rows, width, pairs) = (targets.len(), self.width, self.thetas.len() * self.windows.len());
        let widest = self.windows.last().copied().unwrap_or(0);
        shares.resize(rows * pairs, 0.0);
        if rows == 0 {
            return;
        }
        self.forget(widest);
        let first = self.back.len();
        self.outputs.extend_from_slice(outputs);
        for &target in targets {
            let now = self.forgotten + self.back.len() + 1;
            let latest = std::mem::replace(&mut self.latest[target as usize], now);
            self.back.push(if latest == 0 { 0 } else { now - latest });
        }
        let block = (DOTS / (first + rows).min(widest.saturating_add(rows)).max(1)).max(1);
        for start in (0..rows).step_by(block) {
            let end = rows.min(start + block);
            // What the block looks back at: `begin` to the last position before its last.
            let begin = (first + start).saturating_sub(widest);
            let columns = first + end - 1 - begin;
            let mut dots = std::mem::take(&mut self.dots);
            dots.resize((end - start) * columns);
            product(
                MatrixMut::new(&mut dots, end - start, columns),
                Start::Zero,
                Matrix::new(&outputs[start * width..end * width], end - start, width),
                Matrix::new(&self.outputs[begin * width..], columns, width).transposed(),
            );
            for_each_chunk(&mut shares[start * pairs..end * pairs], pairs, |row, shares| {
                self.share(first + start + row, begin, &dots[row * columns..], nll[start + row], shares);
            });
            self.dots = dots;
        }
    }

    /// Drops what no window reaches any more, once that is more than what one does.
    fn forget(&mut self, widest: usize) {
        let kept = self.back.len();
        if kept > widest.saturating_mul(2) {
            self.outputs.drain(..(kept - widest) * self.width);
            self.back.drain(..kept - widest);
            self.forgotten += kept - widest;
        }
    }

    /// shares: `[θ, W]`, out: p_cache of the word at `at`; dots: its products with the outputs from `begin` on. Sums of
    /// exponentials are kept as their logarithms, window by window from the innermost out.
    fn share(&self, at: usize, begin: usize, dots: &[f32], nll: f32, shares: &mut [f32]) {
        for (&theta, shares) in self.thetas.iter().zip(shares.chunks_exact_mut(self.windows.len())) {
            let (mut inner, mut place) = (at, at);
            let (mut total, mut share) = (f64::NEG_INFINITY, 0.0);
            for (&window, out) in self.windows.iter().zip(shares) {
                let outer = at.saturating_sub(window);
                let ring = log_sum_exp(&dots[outer - begin..inner - begin], theta);
                let mut of_ring = 0.0;
                while let Some(before) = self.same_word_before(place).filter(|&before| before >= outer) {
                    of_ring += (f64::from(theta) * f64::from(dots[before - begin]) - ring).exp();
                    place = before;
                }
                if inner > outer {
                    let most = total.max(ring);
                    let both = most + ((total - most).exp() + (ring - most).exp()).ln();
                    share = share * (total - both).exp() + of_ring * (ring - both).exp();
                    (total, inner) = (both, outer);
                }
                *out = if at == 0 { (-nll).exp() } else { share.min(1.0) as f32 };
            }
        }
    }

    /// Where the word predicted at `place` was last predicted before, if that is kept.
    fn same_word_before(&self, place: usize) -> Option<usize> {
        let back = self.back[place];
        place.checked_sub(back).filter(|_| back > 0)
    }
}

/// The surprisal of a word under the mixture, in nats: `(1 - weight) p_model + weight p_cache`. nll: the model's.
pub(crate) fn mixed(nll: f32, share: f32, weight: f32) -> f64 {
    let (nll, weight) = (f64::from(nll), f64::from(weight));
    if weight == 0.0 {
        return nll;
    }
    let p = (1.0 - weight) * (-nll).exp() + weight * f64::from(share);
    if p > 0.0 { -p.ln() } else { nll - (1.0 - weight).ln() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};

    struct Text {
        width: usize,
        outputs: Vec<f32>,
        targets: Vec<u32>,
        nll: Vec<f32>,
    }

    fn text(rows: usize, width: usize, vocabulary: usize) -> Text {
        let mut rng = Rng::new(3, Purpose::Init, rows as u64);
        Text {
            width,
            outputs: (0..rows * width).map(|_| rng.uniform_in(-1.0, 1.0)).collect(),
            targets: (0..rows).map(|_| rng.below(vocabulary) as u32).collect(),
            nll: (0..rows).map(|_| rng.uniform_in(0.1, 5.0)).collect(),
        }
    }

    impl Text {
        /// Reads the text `block` positions at a time.
        fn read(&self, cache: &mut Cache, block: usize) -> Vec<f32> {
            let (mut all, mut shares) = (Vec::new(), Vec::new());
            let parts = self.outputs.chunks(block * self.width).zip(self.targets.chunks(block));
            for ((outputs, targets), nll) in parts.zip(self.nll.chunks(block)) {
                cache.read(Predicted { outputs, targets, nll }, &mut shares);
                all.extend_from_slice(&shares);
            }
            all
        }

        /// The definition, in double precision.
        fn expected(&self, at: usize, theta: f32, window: usize) -> f64 {
            if at == 0 {
                return f64::from(-self.nll[0]).exp();
            }
            let output = |i: usize| &self.outputs[i * self.width..][..self.width];
            let dot = |i: usize| -> f64 {
                output(at).iter().zip(output(i)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let window = at.saturating_sub(window)..at;
            let most = window.clone().map(dot).fold(f64::NEG_INFINITY, f64::max);
            let weight = |i: usize| (f64::from(theta) * (dot(i) - most)).exp();
            let same = window.clone().filter(|&i| self.targets[i] == self.targets[at]);
            same.map(weight).sum::<f64>() / window.map(weight).sum::<f64>()
        }
    }

    #[test]
    fn agrees_with_its_definition_for_every_setting_and_block() {
        let (thetas, windows) = ([0.0, 0.3, 8.0], [1, 7, 33, 1000]);
        for (rows, width, vocabulary) in [(1, 1, 1), (7, 3, 2), (129, 33, 5), (300, 7, 40)] {
            let text = text(rows, width, vocabulary);
            for block in [1, 20, 256] {
                let shares = text.read(&mut Cache::new(width, vocabulary, &thetas, &windows), block);
                let mut shares = shares.iter();
                for at in 0..rows {
                    for (theta, window) in thetas.iter().flat_map(|theta| windows.map(|window| (*theta, window))) {
                        let (got, expected) = (f64::from(*shares.next().unwrap()), text.expected(at, theta, window));
                        assert!((got - expected).abs() < 2e-5, "{at}, {theta}, {window}: {got} and {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_no_window_reaches_is_forgotten() {
        let text = text(1000, 3, 10);
        let mut cache = Cache::new(3, 10, &[1.0], &[20]);
        let shares = text.read(&mut cache, 16);
        assert!(cache.back.len() <= 56, "{}", cache.back.len());
        for at in [0, 19, 500, 999] {
            assert!((f64::from(shares[at]) - text.expected(at, 1.0, 20)).abs() < 1e-5);
        }
    }

    #[test]
    fn large_products_overflow_nothing() {
        let mut text = text(50, 40, 3);
        text.outputs.iter_mut().for_each(|output| *output *= 30.0);
        let shares = text.read(&mut Cache::new(40, 3, &[3.0], &[5, 50]), 50);
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
    }

    #[test]
    fn the_mixture_is_a_probability_and_without_weight_the_model() {
        assert_eq!(mixed(1.25, 0.9, 0.0), 1.25);
        assert!((mixed(2f32.ln(), 0.25, 0.5) + 0.375f64.ln()).abs() < 1e-6);
        assert!((mixed(1000.0, 0.0, 0.5) - 1000.0 - 2f64.ln()).abs() < 1e-9);
    }
}
