//! A step of the cells that differ from the plain one, against a twin in double precision.

use super::backward::{NormGradient, VariantBackward};
use super::forward::{NormTape, VariantForward};
use super::zoneout::Zoneout;
use crate::recurrence::cell::{Cell, CellNorm};
use crate::recurrence::segment::MaskedRows;
use crate::testing::{close, values};

/// One row and its parameters in double precision: the plain twin.
struct Plain {
    hidden: usize,
    coupled: bool,
    peepholes: Option<Vec<f64>>,
    norm: Option<[Vec<f64>; 3]>,
}

fn double(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

fn normalised(x: &[f64]) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / x.len() as f64;
    x.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt()).collect()
}

impl Plain {
    /// gates, c, tanh c, o ∘ tanh c; `sums` are W_hh h where the cell is normalised.
    fn forward(&self, pre: &[f64], c_before: &[f64], sums: &[f64]) -> [Vec<f64>; 4] {
        let h = self.hidden;
        let sums = normalised(sums);
        let first = if self.coupled { 0 } else { h };
        let pre = |at: usize| pre[at] + self.norm.as_ref().map_or(0.0, |norm| norm[0][at] * sums[at]);
        let peephole = |at: usize| self.peepholes.as_ref().map_or(0.0, |weights| weights[at]);
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (mut gates, mut c) = (vec![0.0; first + 3 * h], vec![0.0; h]);
        for u in 0..h {
            let f = logistic(pre(first + u) + peephole(first + u) * c_before[u]);
            let i = if self.coupled { 1.0 - f } else { logistic(pre(u) + peephole(u) * c_before[u]) };
            let g = pre(first + h + u).tanh();
            c[u] = f * c_before[u] + i * g;
            let o = logistic(pre(first + 2 * h + u) + peephole(first + h + u) * c[u]);
            gates[u] = i;
            (gates[first + u], gates[first + h + u], gates[first + 2 * h + u]) = (f, g, o);
        }
        let read = match &self.norm {
            None => c.clone(),
            Some([_, gain, bias]) => {
                normalised(&c).iter().zip(gain.iter().zip(bias)).map(|(c, (gain, bias))| c * gain + bias).collect()
            }
        };
        let tanh_c: Vec<f64> = read.iter().map(|c| c.tanh()).collect();
        let h = (0..h).map(|u| gates[first + 2 * h + u] * tanh_c[u]).collect();
        [gates, c, tanh_c, h]
    }
}

/// Every combination on odd sizes: forward against the plain twin, backward against its central differences, a row
/// that has masked, and the same bits for any number of threads.
#[test]
fn agrees_with_the_plain_twin() {
    for bits in 0..8 {
        for hidden in [2, 7, 33, 129] {
            check(hidden, bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
        }
    }
}

fn check(hidden: usize, coupled: bool, peeps: bool, norms: bool) {
    let (batch, gates) = (4, if coupled { 3 } else { 4 });
    let (width, case) = (gates * hidden, format!("H {hidden}, {coupled} {peeps} {norms}"));
    let lengths = [2, 1, 2, 2];
    let masked = MaskedRows { lengths: Some(&lengths), t: 1 };
    let peepholes = peeps.then(|| values(width - hidden, 1));
    let [gain_hh, gain_cell, bias_cell] = [(width, 2), (hidden, 3), (hidden, 4)].map(|(len, at)| values(len, at));
    let norm = CellNorm { gain_ih: &gain_hh, gain_hh: &gain_hh, gain_cell: &gain_cell, bias_cell: &bias_cell };
    let (peephole, norm) = (peepholes.as_deref(), norms.then_some(norm));
    let cell = Cell { coupled, peepholes: peephole, norm, ..Cell::plain(hidden) };
    let plain = Plain {
        hidden,
        coupled,
        peepholes: peepholes.as_deref().map(double),
        norm: norms.then(|| [&gain_hh, &gain_cell, &bias_cell].map(|values| double(values))),
    };
    let (pre, c_before, sums) = (values(batch * width, 5), values(batch * hidden, 6), values(batch * width, 7));
    let [d_h, d_o, d_after] = [8, 9, 10].map(|at| values(batch * hidden, at));
    let mask: Vec<f32> = (0..batch * hidden).map(|at| (at % 3 % 2) as f32).collect();
    let run = |threads| {
        let mut got = [pre.clone(), sums.clone(), vec![7.0; batch * width]];
        let mut states: [Vec<f32>; 5] = std::array::from_fn(|_| vec![7.0; batch * hidden]);
        let mut scales = [vec![7.0; batch], vec![7.0; batch]];
        let mut dc = d_after.clone();
        let [gates, sums, d_sums] = &mut got;
        let [c, tanh_c, h, cells, d_cells] = &mut states;
        let [sum_scales, cell_scales] = &mut scales;
        let mut activated = Vec::new();
        crate::with_threads(threads, || {
            let tape = NormTape { sums, sum_scales, cells, cell_scales };
            let norm = norms.then_some(tape);
            cell.step_forward(masked, VariantForward { gates, c_before: &c_before, c, tanh_c, h, norm });
            activated.clone_from(gates);
            let tape = NormGradient { sums, sum_scales, cells, cell_scales, d_sums, d_cells };
            let step = VariantBackward {
                gates,
                c_before: &c_before,
                c,
                tanh_c,
                d_h: &d_h,
                d_o: Some(&d_o),
                dc: &mut dc,
                zoneout: Zoneout::Mask(&mask),
                cut: false,
                norm: norms.then_some(tape),
            };
            cell.step_backward(masked, step);
        });
        (activated, got, states, dc)
    };
    let (activated, [d_gates, _, d_sums], [c, tanh_c, h, ..], dc) = run(1);
    assert!([2, 3].into_iter().all(|threads| run(threads) == run(1)), "{case}");
    for row in 0..batch {
        let (wide, own) = (row * width..(row + 1) * width, row * hidden..(row + 1) * hidden);
        if row == 1 {
            assert!(activated[wide.clone()].iter().chain(&d_gates[wide]).all(|&x| x == 0.0), "{case}");
            assert_eq!([&c[own.clone()], &dc[own.clone()]], [&c_before[own.clone()], &d_after[own]], "{case}");
            continue;
        }
        let inputs = [&pre[wide.clone()], &c_before[own.clone()], &sums[wide.clone()]].map(double);
        let [plain_gates, plain_c, plain_tanh, plain_h] = plain.forward(&inputs[0], &inputs[1], &inputs[2]);
        close(&activated[wide.clone()], &single(&plain_gates), 1e-5);
        close(&c[own.clone()], &single(&plain_c), 1e-5);
        close(&tanh_c[own.clone()], &single(&plain_tanh), 2e-5);
        close(&h[own.clone()], &single(&plain_h), 2e-5);
        if hidden > 7 {
            continue;
        }
        // c' = keep c + (1 - keep) c̃ enters a linear loss, so do o ∘ tanh and o.
        let loss = |inputs: &[Vec<f64>; 3]| {
            let [gates, c, _, h] = plain.forward(&inputs[0], &inputs[1], &inputs[2]);
            let each = (0..hidden).map(|u| {
                let at = own.start + u;
                let (keep, before) = (f64::from(mask[at]), inputs[1][u]);
                f64::from(d_after[at]) * (keep * before + (1.0 - keep) * c[u])
                    + f64::from(d_h[at]) * h[u]
                    + f64::from(d_o[at]) * gates[gates.len() - hidden + u]
            });
            each.sum::<f64>()
        };
        let slope = |which: usize, at: usize| {
            let moved = |by: f64| {
                let mut moved = inputs.clone();
                moved[which][at] += by;
                loss(&moved)
            };
            ((moved(1e-5) - moved(-1e-5)) / 2e-5) as f32
        };
        let slopes = |which: usize, len: usize| (0..len).map(|at| slope(which, at)).collect::<Vec<f32>>();
        // A normalised pair is one differing sign: its scale is large, and so are slopes through it.
        close(&d_gates[wide.clone()], &slopes(0, width), 2e-4);
        close(&dc[own.clone()], &slopes(1, hidden), 2e-4);
        if norms {
            close(&d_sums[wide], &slopes(2, width), 2e-4);
        }
    }
}

/// One unit of an sLSTM by the paper's equations in double precision, unstabilised: α, f, z, o, then c / n, n, h.
fn exponential(pre: [f64; 4], c_before: f64, n_before: f64) -> ([f64; 4], [f64; 3]) {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    let (i, f, z, o) = (pre[0].exp(), logistic(pre[1]), pre[2].tanh(), logistic(pre[3]));
    let n = f * n_before + i;
    let c = f * c_before * n_before + i * z;
    ([i / n, f, z, o], [c / n, n, o * c / n])
}

#[test]
fn an_exponential_cell_agrees_with_its_twin() {
    for hidden in [2, 7, 33, 129] {
        let (batch, width) = (4, 4 * hidden);
        let cell = Cell { exponential: true, ..Cell::plain(hidden) };
        let lengths = [2, 1, 2, 2];
        let masked = MaskedRows { lengths: Some(&lengths), t: 1 };
        // Gates that are far open too: what came before is forgotten then.
        let pre: Vec<f32> =
            values(batch * width, 5).iter().enumerate().map(|(at, x)| x * (1 + at % 9) as f32).collect();
        let mut c_before = values(batch * 2 * hidden, 6);
        c_before.chunks_exact_mut(2 * hidden).for_each(|row| row[hidden..].iter_mut().for_each(|n| *n = n.abs() + 0.1));
        // The first row is at its beginning.
        c_before[..2 * hidden].fill(0.0);
        let [d_h, d_o] = [8, 9].map(|at| values(batch * hidden, at));
        let d_after = values(batch * 2 * hidden, 10);
        let run = |threads| {
            let (mut gates, mut c, mut dc) = (pre.clone(), vec![7.0; batch * 2 * hidden], d_after.clone());
            let (mut tanh_c, mut h) = (vec![7.0; batch * hidden], vec![7.0; batch * hidden]);
            let mut activated = Vec::new();
            crate::with_threads(threads, || {
                let (c, tanh_c, h) = (&mut c, &mut tanh_c, &mut h);
                let step = VariantForward { gates: &mut gates, c_before: &c_before, c, tanh_c, h, norm: None };
                cell.step_forward(masked, step);
                activated.clone_from(&gates);
                let step = VariantBackward {
                    gates: &mut gates,
                    c_before: &c_before,
                    c,
                    tanh_c,
                    d_h: &d_h,
                    d_o: Some(&d_o),
                    dc: &mut dc,
                    zoneout: Zoneout::Rate(0.0),
                    cut: false,
                    norm: None,
                };
                cell.step_backward(masked, step);
            });
            (activated, gates, [c, tanh_c, h], dc)
        };
        let (activated, d_gates, [c, tanh_c, h], dc) = run(1);
        assert!([2, 3].into_iter().all(|threads| run(threads) == run(1)), "H {hidden}");
        for row in 0..batch {
            let state = &c_before[row * 2 * hidden..][..2 * hidden];
            let after = &c[row * 2 * hidden..][..2 * hidden];
            if row == 1 {
                assert_eq!((after, &tanh_c[row * hidden..][..hidden]), (state, &state[..hidden]));
                assert_eq!(&dc[row * 2 * hidden..][..2 * hidden], &d_after[row * 2 * hidden..][..2 * hidden]);
                continue;
            }
            for unit in 0..hidden {
                let at = |gate: usize| row * width + gate * hidden + unit;
                let inputs: [f64; 6] = std::array::from_fn(|which| match which {
                    0..4 => f64::from(pre[at(which)]),
                    _ => f64::from(state[(which - 4) * hidden + unit]),
                });
                let twin = |x: [f64; 6]| exponential([x[0], x[1], x[2], x[3]], x[4], x[5]);
                let (gates, [expected_c, expected_n, expected_h]) = twin(inputs);
                close(&(0..4).map(|gate| activated[at(gate)]).collect::<Vec<_>>(), &single(&gates), 1e-5);
                let found = [after[unit], after[hidden + unit], h[row * hidden + unit]];
                close(&found, &single(&[expected_c, expected_n, expected_h]), 1e-5);
                let d = |values: &[f32], at: usize| f64::from(values[at]);
                let loss = |x: [f64; 6]| {
                    let ([.., o], [c, n, h]) = twin(x);
                    let of_state =
                        d(&d_after, row * 2 * hidden + unit) * c + d(&d_after, row * 2 * hidden + hidden + unit) * n;
                    of_state + d(&d_h, row * hidden + unit) * h + d(&d_o, row * hidden + unit) * o
                };
                let slope = |which: usize| {
                    let moved = |by: f64| {
                        let mut moved = inputs;
                        moved[which] += by;
                        loss(moved)
                    };
                    ((moved(1e-6) - moved(-1e-6)) / 2e-6) as f32
                };
                close(
                    &(0..4).map(|gate| d_gates[at(gate)]).collect::<Vec<_>>(),
                    &(0..4).map(slope).collect::<Vec<_>>(),
                    2e-4,
                );
                let found = [dc[row * 2 * hidden + unit], dc[row * 2 * hidden + hidden + unit]];
                close(&found, &[slope(4), slope(5)], 2e-4);
            }
        }
    }
}
