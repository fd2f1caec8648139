//! Which cell a recurrence has, with the parameters that only it has.

/// A cell: the plain LSTM's, or one with peepholes, coupled gates, layer normalisation, zoneout or a mogrifier, in any combination; or an sLSTM's.
///
/// It has K gates: i, f, g, o or, where i = 1 − f, f, g, o. Its state has S = H values a row; that of an sLSTM 2H, the normalised cell state and
/// the normaliser beside it.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    /// H.
    pub hidden: usize,
    /// Whether i = 1 − f: there are three gates then.
    pub coupled: bool,
    /// Whether it is an sLSTM's (Beck et al. 2024), whose input gate is exponential: then neither coupled, nor with peepholes, nor normalised, and
    /// zoneout leaves its cell state alone. In place of i it keeps the share of what is new in the normalised cell state.
    pub exponential: bool,
    /// `[3H]`: the peephole weights of i, f, o; `[2H]` of f, o if the gates are coupled.
    pub peepholes: Option<&'a [f32]>,
    /// The gains and biases of a layer-normalised cell.
    pub norm: Option<CellNorm<'a>>,
    /// How often units keep their states.
    pub zoneout: ZoneoutRates,
    /// The rounds in which input and hidden state gate one another before a step.
    pub mogrifier: Option<CellMogrifier<'a>>,
}

/// The rounds of a mogrified cell (Melis et al. 2019): odd ones gate the input by the hidden state, even ones the hidden state by the input.
#[derive(Clone, Copy, Debug)]
pub struct CellMogrifier<'a> {
    /// r, at least 1.
    pub rounds: usize,
    /// I.
    pub input: usize,
    /// k, where a matrix is the product of two of so low a rank.
    pub rank: Option<usize>,
    /// `[⌈r/2⌉, I, R]`, of the rounds that gate the input, and nothing; or `[⌈r/2⌉, I, k]` and `[⌈r/2⌉, k, R]`.
    pub of_input: [&'a [f32]; 2],
    /// `[⌊r/2⌋, R, I]`, of those that gate the hidden state, and nothing; or `[⌊r/2⌋, R, k]` and `[⌊r/2⌋, k, I]`.
    pub of_hidden: [&'a [f32]; 2],
}

/// The parameters of a layer-normalised cell, besides the biases of its gates.
#[derive(Clone, Copy, Debug)]
pub struct CellNorm<'a> {
    /// `[K·H]`: the gain of what comes from the input.
    pub gain_ih: &'a [f32],
    /// `[K·H]`: that of what comes from the hidden state.
    pub gain_hh: &'a [f32],
    /// `[H]`: that of the cell state.
    pub gain_cell: &'a [f32],
    /// `[H]`: the bias of the cell state.
    pub bias_cell: &'a [f32],
}

/// The probabilities with which a unit keeps its state in a step (zoneout, Krueger et al. 2017).
#[derive(Clone, Copy, Debug, Default)]
pub struct ZoneoutRates {
    /// Of the cell state.
    pub cell: f32,
    /// Of the hidden state.
    pub hidden: f32,
}

/// A parameter that the plain cell does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellParameter {
    /// See [`Cell::peepholes`].
    Peepholes,
    /// See [`CellNorm::gain_ih`].
    GainIh,
    /// See [`CellNorm::gain_hh`].
    GainHh,
    /// See [`CellNorm::gain_cell`].
    GainCell,
    /// See [`CellNorm::bias_cell`].
    BiasCell,
    /// See [`CellMogrifier::of_input`]: the first of both, or the second.
    MogrifyInput(usize),
    /// See [`CellMogrifier::of_hidden`], likewise.
    MogrifyHidden(usize),
}

impl<'a> CellMogrifier<'a> {
    /// The matrices of round `index`, `[n, m]`, or `[n, k]` and `[k, m]`. recurrent: R.
    pub(crate) fn matrices(&self, index: usize, recurrent: usize) -> (&'a [f32], Option<&'a [f32]>) {
        let (n, m) = self.sizes(index, recurrent);
        let [left, right] = if index.is_multiple_of(2) { self.of_input } else { self.of_hidden };
        let of_round = |values: &'a [f32], len: usize| &values[index / 2 * len..][..len];
        (of_round(left, n * self.rank.unwrap_or(m)), self.rank.map(|rank| of_round(right, rank * m)))
    }

    /// n, what round `index` gates, and m, what it gates it by.
    pub(crate) fn sizes(&self, index: usize, recurrent: usize) -> (usize, usize) {
        if index.is_multiple_of(2) { (self.input, recurrent) } else { (recurrent, self.input) }
    }
}

impl Cell<'_> {
    /// The plain cell of `hidden` units.
    pub fn plain(hidden: usize) -> Self {
        Self {
            hidden,
            coupled: false,
            exponential: false,
            peepholes: None,
            norm: None,
            zoneout: ZoneoutRates::default(),
            mogrifier: None,
        }
    }

    /// Whether it is the plain LSTM's.
    pub(crate) fn is_plain(&self) -> bool {
        self.mogrifier.is_none() && self.is_plain_in_itself()
    }

    /// Whether the step is the plain LSTM's, whatever its input and hidden state went through before it.
    pub(crate) fn is_plain_in_itself(&self) -> bool {
        let ZoneoutRates { cell, hidden } = self.zoneout;
        !self.coupled
            && !self.exponential
            && self.peepholes.is_none()
            && self.norm.is_none()
            && cell == 0.0
            && hidden == 0.0
    }

    /// K, the number of gates.
    pub(crate) fn gates(&self) -> usize {
        if self.coupled { 3 } else { 4 }
    }

    /// S, the values of a row's cell state.
    pub(crate) fn state(&self) -> usize {
        if self.exponential { 2 * self.hidden } else { self.hidden }
    }

    /// K·H, the width of the gates.
    pub(crate) fn width(&self) -> usize {
        self.gates() * self.hidden
    }

    /// Asserts the shapes of the parameters. recurrent: R.
    pub(crate) fn check(&self, recurrent: usize) {
        let width = self.width();
        if self.exponential {
            let is_alone = !self.coupled && self.peepholes.is_none() && self.norm.is_none() && self.zoneout.cell == 0.0;
            assert!(is_alone, "an sLSTM has gates and a cell state of its own");
        }
        if let Some(peepholes) = self.peepholes {
            assert_eq!(peepholes.len(), width - self.hidden, "a peephole for every gate but g");
        }
        if let Some(norm) = self.norm {
            let lengths = [norm.gain_ih, norm.gain_hh, norm.gain_cell, norm.bias_cell].map(<[f32]>::len);
            assert_eq!(lengths, [width, width, self.hidden, self.hidden], "gains and biases");
        }
        if let Some(CellMogrifier { rounds, input, rank, of_input, of_hidden }) = self.mogrifier {
            assert!(rounds > 0 && rank != Some(0), "rounds of matrices");
            for ([left, right], count, n, m) in
                [(of_input, rounds.div_ceil(2), input, recurrent), (of_hidden, rounds / 2, recurrent, input)]
            {
                let expected = rank.map_or([n * m, 0], |rank| [n * rank, rank * m]);
                assert_eq!([left.len(), right.len()], expected.map(|len| count * len), "matrices of rounds");
            }
        }
    }
}
