//! The cell of a layer: its sizes, and the settings and parameters that differ from the plain one's. The equations are those
//! of [`crate::cell::variant`], the loops the kernels'.

use lstm_kernels::{Cell, CellMogrifier, CellNorm, CellParameter, RecurrenceTape, Start, ZoneoutRates};

use crate::free_memory::bytes_of;
use crate::nn::config::CellOptions;
use crate::nn::dropout::{Dropout, zoneout_places};
use crate::nn::params::{Params, ParamsMut, ParamsRef, Slot};
use crate::nn::segment::Segment;

/// The sizes and the course of one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// K, the gates with parameters.
    pub(super) gates: usize,
    /// I.
    pub(super) input: usize,
    /// H.
    pub(super) hidden: usize,
    /// R.
    pub(super) recurrent: usize,
    pub(super) reverse: bool,
    pub(super) horizon: Option<usize>,
}

/// The plain cell, or one with peepholes, coupled gates, layer normalisation, zoneout or a mogrifier, and their parameters.
#[derive(Clone, Debug)]
pub(super) struct LayerCell {
    variant: CellOptions,
    /// `weight_peephole [3H]`, of i, f, o; `[2H]` of f, o if the gates are coupled.
    peepholes: Option<Slot>,
    norm: Option<NormSlots>,
    mogrifier: Option<MogrifierSlots>,
}

/// The matrices of a mogrifier's rounds, those of one kind one under another; two of each where they have a lower rank k.
#[derive(Clone, Copy, Debug)]
struct MogrifierSlots {
    /// I.
    input: usize,
    /// `weight_mogrify_input [⌈r/2⌉·I, R]`; or `[⌈r/2⌉·I, k]` and `weight_mogrify_input_right [⌈r/2⌉·k, R]`.
    of_input: (Slot, Option<Slot>),
    /// `weight_mogrify_hidden [⌊r/2⌋·R, I]` likewise; none of a single round.
    of_hidden: Option<(Slot, Option<Slot>)>,
}

impl MogrifierSlots {
    fn in_layout(variant: CellOptions, sizes: Sizes, add: &mut impl FnMut(&str, &[usize], usize) -> Slot) -> Self {
        let CellOptions { mogrify: rounds, mogrify_rank: rank, .. } = variant;
        let Sizes { input, recurrent, .. } = sizes;
        let mut of = |name: &str, count: usize, n: usize, m: usize| {
            let rows = |size: usize| count.saturating_mul(size);
            let left = add(name, &[rows(n), rank.unwrap_or(m)], count);
            (left, rank.map(|rank| add(&format!("{name}_right"), &[rows(rank), m], count)))
        };
        let of_input = of("weight_mogrify_input", rounds.div_ceil(2), input, recurrent);
        let of_hidden = (rounds > 1).then(|| of("weight_mogrify_hidden", rounds / 2, recurrent, input));
        Self { input, of_input, of_hidden }
    }

    /// The arrays, each with the gradient that the kernels give it.
    fn all(self) -> impl Iterator<Item = (Slot, CellParameter)> {
        let both = |(left, right): (Slot, Option<Slot>), of: fn(usize) -> CellParameter| {
            [Some((left, of(0))), right.map(|right| (right, of(1)))].into_iter().flatten()
        };
        let of_hidden = self.of_hidden.into_iter().flat_map(move |slots| both(slots, CellParameter::MogrifyHidden));
        both(self.of_input, CellParameter::MogrifyInput).chain(of_hidden)
    }
}

/// The parameters of layer normalisation, besides the biases that every cell has.
#[derive(Clone, Copy, Debug)]
struct NormSlots {
    /// `[K·H]`.
    gain_ih: Slot,
    /// `[K·H]`.
    gain_hh: Slot,
    /// `[H]`.
    gain_cell: Slot,
    /// `[H]`.
    bias_cell: Slot,
}

impl Sizes {
    /// K·H, the width of the gates.
    pub(super) fn width(self) -> usize {
        self.gates.saturating_mul(self.hidden)
    }
}

impl LayerCell {
    /// The cell that `variant` names, its own parameters added.
    ///
    /// add: an array of a name, a shape and so many matrices.
    pub(super) fn in_layout(
        variant: CellOptions,
        sizes: Sizes,
        mut add: impl FnMut(&str, &[usize], usize) -> Slot,
    ) -> Self {
        let (hidden, width) = (sizes.hidden, sizes.width());
        let peepholes = variant.peepholes.then(|| add("weight_peephole", &[width - hidden], 0));
        let norm = variant.layer_norm.then(|| NormSlots {
            gain_ih: add("gain_ih", &[width], 0),
            gain_hh: add("gain_hh", &[width], 0),
            gain_cell: add("gain_cell", &[hidden], 0),
            bias_cell: add("bias_cell", &[hidden], 0),
        });
        let mogrifier = (variant.mogrify > 0).then(|| MogrifierSlots::in_layout(variant, sizes, &mut add));
        Self { variant, peepholes, norm, mogrifier }
    }

    /// Sets initial values: peepholes and the matrices of rounds uniform within `bound`, gains 1.
    pub(super) fn initialise(&self, params: &mut Params, bound: f32, seed: u64) {
        let of_rounds = self.mogrifier.into_iter().flat_map(MogrifierSlots::all).map(|(slot, _)| slot);
        for slot in self.peepholes.into_iter().chain(of_rounds) {
            params.fill_uniform(slot, bound, seed);
        }
        if let Some(norm) = self.norm {
            for gain in [norm.gain_ih, norm.gain_hh, norm.gain_cell] {
                params.get_mut(gain).fill(1.0);
            }
            params.get_mut(norm.bias_cell).fill(0.0);
        }
    }

    /// Whether the input part of the gates is normalised before its bias is added.
    pub(super) fn is_normalised(&self) -> bool {
        self.norm.is_some()
    }

    /// Whether the gates read another input than the layer's, one that is made step by step.
    pub(super) fn is_mogrified(&self) -> bool {
        self.mogrifier.is_some()
    }

    /// The bytes of what these cells keep for a segment beside what every cell does.
    pub(super) fn bytes(&self, steps: usize, batch: usize, sizes: Sizes) -> usize {
        let Sizes { input, hidden, recurrent, .. } = sizes;
        let (rounds, mogrified) = (self.variant.mogrify, usize::from(self.is_mogrified()));
        let (zoneout, norm) = (self.variant.zoneout, usize::from(self.is_normalised()));
        let [of_cell, of_hidden] = [zoneout.cell, zoneout.hidden].map(|rate| usize::from(rate > 0.0));
        let of_new = of_cell * usize::from(self.peepholes.is_some());
        // Sizes that no memory holds have no double.
        let twice = steps.saturating_mul(2);
        bytes_of(&[
            [steps, batch, of_cell * hidden],
            [steps, batch, of_hidden * recurrent],
            [steps, batch, of_new * hidden],
            // The normaliser beside the cell state.
            [steps.saturating_add(1), batch, usize::from(self.variant.exponential) * hidden],
            // Both parts of the gates and the gradient of one; the cells and their gradient.
            [steps, batch, sizes.width().saturating_mul(3 * norm)],
            [steps, batch, hidden.saturating_mul(2 * norm)],
            [steps, batch, 3 * norm],
            // The gradient of a step's hidden states, where the loop is the one that these cells share.
            [1, batch, usize::from(!self.variant.is_plain()) * hidden],
            // Those of the parameters that these cells alone have.
            [1, 1, self.peepholes.map_or(0, |slot| slot.range().len())],
            [1, 2 * norm, sizes.width().saturating_add(hidden)],
            // Of a mogrified cell the input; gates and values of every round, what is read by way of a lower rank; matrices packed twice,
            // and their gradient.
            [steps, batch, mogrified * input],
            [twice, batch, input.saturating_mul(rounds.div_ceil(2))],
            [twice, batch, recurrent.saturating_mul(rounds / 2)],
            [twice, batch, rounds.saturating_mul(self.variant.mogrify_rank.unwrap_or(0))],
            [2 * mogrified, sizes.width(), input],
            [mogrified, batch, input.saturating_add(recurrent)],
            [mogrified * norm, batch, sizes.width()],
            [1, 3, self.mogrifier.into_iter().flat_map(MogrifierSlots::all).map(|(slot, _)| slot.range().len()).sum()],
        ])
    }

    /// Draws the masks of zoneout for the segment, or none.
    pub(super) fn draw_zoneout(
        &self,
        dropout: Option<Dropout>,
        layer: usize,
        segment: Segment,
        sizes: Sizes,
        tape: &mut RecurrenceTape,
    ) {
        let rows = segment.rows();
        let [cell, hidden] = zoneout_places(layer, sizes.reverse);
        let zoneout = self.variant.zoneout;
        let [of_cell, of_hidden] = &mut tape.sequence.zoneout_masks;
        for (place, rate, mask, len) in [
            (cell, zoneout.cell, of_cell, rows * sizes.hidden),
            (hidden, zoneout.hidden, of_hidden, rows * sizes.recurrent),
        ] {
            mask.clear();
            if let Some(Dropout { masks, .. }) = dropout.filter(|_| rate > 0.0) {
                masks.fill_zoneout(place, rate, mask, len);
            }
        }
    }

    /// The cell as the kernels take it.
    pub(super) fn kernel<'a>(&self, params: ParamsRef<'a>, hidden: usize) -> Cell<'a> {
        let CellOptions { coupled, exponential, zoneout, mogrify: rounds, mogrify_rank: rank, .. } = self.variant;
        let both =
            |(left, right): (Slot, Option<Slot>)| [params.get(left), right.map_or(&[][..], |right| params.get(right))];
        Cell {
            hidden,
            coupled,
            exponential,
            peepholes: self.peepholes.map(|slot| params.get(slot)),
            norm: self.norm.map(|norm| CellNorm {
                gain_ih: params.get(norm.gain_ih),
                gain_hh: params.get(norm.gain_hh),
                gain_cell: params.get(norm.gain_cell),
                bias_cell: params.get(norm.bias_cell),
            }),
            zoneout: ZoneoutRates { cell: zoneout.cell, hidden: zoneout.hidden },
            mogrifier: self.mogrifier.map(|MogrifierSlots { input, of_input, of_hidden }| CellMogrifier {
                rounds,
                input,
                rank,
                of_input: both(of_input),
                of_hidden: of_hidden.map_or([&[][..]; 2], both),
            }),
        }
    }

    /// Gives `gradients` those of these parameters, which a way back left in `tape`.
    pub(super) fn store_gradients(&self, tape: &RecurrenceTape, gradients: &mut ParamsMut, accumulate: Start) {
        let peepholes = self.peepholes.map(|slot| (slot, CellParameter::Peepholes));
        let norm = self.norm.map(|norm| {
            [
                (norm.gain_ih, CellParameter::GainIh),
                (norm.gain_hh, CellParameter::GainHh),
                (norm.gain_cell, CellParameter::GainCell),
                (norm.bias_cell, CellParameter::BiasCell),
            ]
        });
        let of_rounds = self.mogrifier.into_iter().flat_map(MogrifierSlots::all);
        for (slot, parameter) in peepholes.into_iter().chain(norm.into_iter().flatten()).chain(of_rounds) {
            accumulate.store(gradients.get_mut(slot), tape.parameter_gradient(parameter));
        }
    }
}
