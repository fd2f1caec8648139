//! Which cell a recurrence has, with the parameters that only it has.

/// A cell: the plain LSTM's, or one with peepholes, coupled gates, layer normalisation or zoneout, in any combination.
///
/// It has K gates: i, f, g, o or, where i = 1 − f, f, g, o.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    /// H.
    pub hidden: usize,
    /// Whether i = 1 − f: there are three gates then.
    pub coupled: bool,
    /// `[3H]`: the peephole weights of i, f, o; `[2H]` of f, o if the gates are coupled.
    pub peepholes: Option<&'a [f32]>,
    /// The gains and biases of a layer-normalised cell.
    pub norm: Option<CellNorm<'a>>,
    /// How often units keep their states.
    pub zoneout: ZoneoutRates,
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
}

impl Cell<'_> {
    /// The plain cell of `hidden` units.
    pub fn plain(hidden: usize) -> Self {
        Self { hidden, coupled: false, peepholes: None, norm: None, zoneout: ZoneoutRates::default() }
    }

    /// Whether it is the plain LSTM's.
    pub(crate) fn is_plain(&self) -> bool {
        let ZoneoutRates { cell, hidden } = self.zoneout;
        !self.coupled && self.peepholes.is_none() && self.norm.is_none() && cell == 0.0 && hidden == 0.0
    }

    /// K, the number of gates.
    pub(crate) fn gates(&self) -> usize {
        if self.coupled { 3 } else { 4 }
    }

    /// K·H, the width of the gates.
    pub(crate) fn width(&self) -> usize {
        self.gates() * self.hidden
    }

    /// Asserts the shapes of the parameters.
    pub(crate) fn check(&self) {
        let width = self.width();
        if let Some(peepholes) = self.peepholes {
            assert_eq!(peepholes.len(), width - self.hidden, "a peephole for every gate but g");
        }
        if let Some(norm) = self.norm {
            let lengths = [norm.gain_ih, norm.gain_hh, norm.gain_cell, norm.bias_cell].map(<[f32]>::len);
            assert_eq!(lengths, [width, width, self.hidden, self.hidden], "gains and biases");
        }
    }
}
