//! Zoneout (Krueger et al. 2017): units that keep their state in a step. The mask is z, one where a unit does.

use crate::recurrence::segment::MaskedRows;
use crate::simd::{Kernel, Lane, Simd, dispatch, for_vectors};
use crate::team::chunks::for_each_share;
use crate::team::shared::{Shared, zero};

/// The share of each value of a state that stays what it was (zoneout, Krueger et al. 2017).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Zoneout<'a> {
    /// The expectation, for evaluation: the same share of all; 0 keeps nothing.
    Rate(f32),
    /// One or zero for each value.
    Mask(&'a [f32]),
}

impl Zoneout<'_> {
    /// The share of a vector of values from `at` on.
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd>(self, simd: S, at: usize, lanes: impl Lane) -> S::V {
        match self {
            Zoneout::Rate(rate) => simd.splat(rate),
            // SAFETY: as the caller promises.
            Zoneout::Mask(mask) => unsafe { lanes.load(simd, mask.as_ptr().add(at)) },
        }
    }

    pub(super) fn assert_fits(self, len: usize) {
        if let Zoneout::Mask(mask) = self {
            assert_eq!(mask.len(), len, "a mask for every value");
        }
    }
}

/// Zoneout of a state: values `[B, N]` = z ∘ before + (1 − z) ∘ values; a masked row keeps all.
///
/// # Panics
/// When the shapes do not fit each other.
pub(super) fn zoneout_state(values: &mut [f32], before: &[f32], batch: usize, zoneout: Zoneout, masked: MaskedRows) {
    let width = values.len() / batch.max(1);
    assert_eq!([values.len(), before.len()], [batch * width; 2], "states are [B, N]");
    zoneout.assert_fits(values.len());
    let values = Shared::new(values);
    for_each_share(batch, width, |rows| {
        for row in rows {
            // SAFETY: rows inside the array, each of one share.
            let at = unsafe { values.at(row * width) };
            let before = &before[row * width..][..width];
            if masked.contains(row) {
                // SAFETY: as above.
                unsafe { std::ptr::copy_nonoverlapping(before.as_ptr(), at, width) };
            } else {
                dispatch(Blend { values: at, before: before.as_ptr(), len: width, zoneout, first: row * width });
            }
        }
    });
}

/// The way back through [`zoneout_state`]: of the whole gradient of a state, what was `carried` to it plus what came from `above`,
/// `d_new` receives the part of the new value, and `carried` keeps that of the value before; none of it if it is `cut`.
/// A masked row hands its carried gradient on. All `[B, N]`.
///
/// # Panics
/// When the shapes do not fit each other.
pub(super) fn zoneout_backward(
    carried: &mut [f32],
    above: &[f32],
    d_new: &mut [f32],
    batch: usize,
    zoneout: Zoneout,
    cut: bool,
    masked: MaskedRows,
) {
    let width = carried.len() / batch.max(1);
    assert_eq!([carried.len(), above.len(), d_new.len()], [batch * width; 3], "gradients are [B, N]");
    zoneout.assert_fits(carried.len());
    let (carried, d_new) = (Shared::new(carried), Shared::new(d_new));
    for_each_share(batch, width, |rows| {
        for row in rows {
            // SAFETY: rows inside the arrays, each of one share.
            unsafe {
                let (first, d_new) = (row * width, d_new.at(row * width));
                if masked.contains(row) {
                    zero(d_new, width);
                } else {
                    let (carried, above) = (carried.at(first), above[first..][..width].as_ptr());
                    dispatch(Unblend { carried, above, d_new, len: width, zoneout, first, cut });
                }
            }
        }
    });
}

/// z ∘ before + (1 − z) ∘ values.
pub(crate) struct Blend<'a> {
    pub(crate) values: *mut f32,
    pub(crate) before: *const f32,
    pub(crate) len: usize,
    pub(crate) zoneout: Zoneout<'a>,
    /// Where the row begins in the mask.
    pub(crate) first: usize,
}

impl Kernel for Blend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { values, before, len, zoneout, first } = self;
        let one = simd.splat(1.0);
        // SAFETY: as whoever made it promised.
        unsafe {
            for_vectors!(S, len, |at, lanes| {
                let kept = zoneout.load(simd, first + at, lanes);
                let new = simd.mul(simd.sub(one, kept), lanes.load(simd, values.add(at)));
                lanes.store(simd, values.add(at), simd.mul_add(kept, lanes.load(simd, before.add(at)), new));
            });
        }
    }
}

struct Unblend<'a> {
    carried: *mut f32,
    above: *const f32,
    d_new: *mut f32,
    len: usize,
    zoneout: Zoneout<'a>,
    first: usize,
    cut: bool,
}

impl Kernel for Unblend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { carried, above, d_new, len, zoneout, first, cut } = self;
        let one = simd.splat(1.0);
        // SAFETY: as whoever made it promised.
        unsafe {
            for_vectors!(S, len, |at, lanes| {
                let kept = zoneout.load(simd, first + at, lanes);
                let whole = simd.add(lanes.load(simd, carried.add(at)), lanes.load(simd, above.add(at)));
                lanes.store(simd, d_new.add(at), simd.mul(simd.sub(one, kept), whole));
                lanes.store(simd, carried.add(at), if cut { simd.splat(0.0) } else { simd.mul(kept, whole) });
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, values};

    #[test]
    fn zoneout_keeps_what_its_mask_names_and_splits_the_gradient() {
        let (batch, width) = (3, 37);
        let (new, before, above) = (values(batch * width, 1), values(batch * width, 2), values(batch * width, 3));
        let mask: Vec<f32> = (0..batch * width).map(|at| (at % 2) as f32).collect();
        let masked = MaskedRows { lengths: Some(&[5, 0, 5]), t: 0 };
        for zoneout in [Zoneout::Mask(&mask), Zoneout::Rate(0.25)] {
            let share = |at: usize| if let Zoneout::Mask(mask) = zoneout { mask[at] } else { 0.25 };
            let mut kept = new.clone();
            zoneout_state(&mut kept, &before, batch, zoneout, masked);
            let (mut carried, mut d_new) = (before.clone(), vec![7.0; batch * width]);
            zoneout_backward(&mut carried, &above, &mut d_new, batch, zoneout, false, masked);
            let mut cut = before.clone();
            zoneout_backward(&mut cut, &above, &mut vec![0.0; batch * width], batch, zoneout, true, masked);
            for at in 0..batch * width {
                let (keep, whole) = (share(at), before[at] + above[at]);
                let expected = match at / width {
                    1 => [before[at], before[at], 0.0, before[at]],
                    _ => [keep * before[at] + (1.0 - keep) * new[at], keep * whole, (1.0 - keep) * whole, 0.0],
                };
                close(&[kept[at], carried[at], d_new[at], cut[at]], &expected, 1e-6);
            }
        }
    }
}
