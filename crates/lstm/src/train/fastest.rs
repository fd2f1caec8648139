//! The precision in which steps of a task are fastest on this machine, for a run of which nobody decided it.

use std::fmt;
use std::time::Instant;

use super::step::TrainStep;
use super::task::{Batches, Task};
use crate::nn::precision::Precision;
use crate::run::checkpoint::Progress;
use crate::run::error::TrainError;

/// The share of a run's time that one measurement takes, and the most seconds of it.
const MEASURED: f64 = 0.02;
const LONGEST: f64 = 0.5;

/// The fewest steps of a measurement in each precision, after one that packs weights and touches memory.
const FEWEST_STEPS: usize = 1;

/// The speed of bf16, with f32's as 1, from which on its fewer bits are worth it: what is gained is then more than what is measured
/// wrongly beside other work.
const WORTH: f64 = 1.1;

/// The seconds of a measurement in a run of so many.
pub(crate) fn seconds_to_measure(seconds: f64) -> f64 {
    (MEASURED * seconds).min(LONGEST)
}

/// The precision of a run that nobody decided, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PrecisionChoice {
    /// Steps in bf16 were measured to have so many times the speed of those in f32: bf16 where that is worth its fewer bits.
    Measured(f64),
    /// f32: this processor, or what the environment leaves of it, has no instructions for bf16.
    NoUnit,
    /// f32: layer normalisation divides by the deviation of a few units, which magnifies any rounding.
    LayerNorm,
}

impl PrecisionChoice {
    /// The precision that was chosen.
    pub fn precision(self) -> Precision {
        match self {
            Self::Measured(speed) if speed >= WORTH => Precision::Bf16,
            _ => Precision::F32,
        }
    }

    /// What can be said before anything is measured: why it is f32.
    pub(crate) fn before_measuring(layer_norm: bool) -> Option<Self> {
        if layer_norm {
            return Some(Self::LayerNorm);
        }
        (!Precision::Bf16.has_unit()).then_some(Self::NoUnit)
    }
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = Precision::Bf16.unit();
        match self {
            Self::Measured(speed) if self.precision() == Precision::Bf16 => {
                write!(f, "products in bf16 by {unit}: {speed:.1} times the speed of f32 here")
            }
            Self::Measured(speed) => write!(f, "products in f32: bf16 by {unit} has {speed:.1} times its speed here"),
            Self::NoUnit => write!(f, "products in f32: {} for bf16", Precision::Bf16.who_has_no_unit()),
            Self::LayerNorm => f.write_str("products in f32: layer normalisation magnifies what bf16 rounds"),
        }
    }
}

/// Chooses the precision of a task's steps in a run of so many seconds, by a few steps in each that are kept nothing of.
///
/// # Errors
/// A run that cannot be trained.
pub(crate) fn choose<T: Task>(task: &T, layer_norm: bool, seconds: f64) -> Result<PrecisionChoice, TrainError> {
    if let Some(choice) = PrecisionChoice::before_measuring(layer_norm) {
        return Ok(choice);
    }
    let (mut progress, mut training) = (Progress::new(task), TrainStep::new(task));
    let both = [Precision::F32, Precision::Bf16];
    let taken = seconds_of_each(&mut training, &mut progress, &task.batches(0)?, &both, seconds)?;
    Ok(PrecisionChoice::Measured(taken[0] / taken[1]))
}

/// Whether a precision was decided that `laid` lays over a run with another: what decides none leaves each as it is.
///
/// # Errors
/// Those of `laid`.
pub(crate) fn is_left_open<E>(mut laid: impl FnMut(Precision) -> Result<Precision, E>) -> Result<bool, E> {
    for precision in [Precision::F32, Precision::Bf16] {
        if laid(precision)? != precision {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The seconds that a step takes for each of what it counts in its loss (a token, an example), in each of these precisions, of a run of so
/// many seconds. They are taken in turns on the same batches, so that other work on the machine disturbs all of them alike.
///
/// # Errors
/// A rank that is lost.
pub(crate) fn seconds_of_each<T: Task>(
    training: &mut TrainStep<'_, T>,
    progress: &mut Progress,
    batches: &T::Batches<'_>,
    precisions: &[Precision],
    seconds: f64,
) -> Result<Vec<f64>, TrainError> {
    let (mut taken, mut counted) = (vec![0.0; precisions.len()], 0);
    let until = seconds_to_measure(seconds) * precisions.len() as f64;
    let mut steps = 0;
    while steps <= FEWEST_STEPS || taken.iter().sum::<f64>() < until {
        if progress.position.batch >= batches.count() {
            progress.position.begin_epoch();
        }
        let position = progress.position.clone();
        let mut count = 0;
        for (precision, taken) in precisions.iter().zip(&mut taken) {
            progress.position.clone_from(&position);
            training.set_precision(*precision);
            let started = Instant::now();
            // A rate of zero takes as long as any other.
            count = training.take(progress, batches, 0.0)?.loss.tokens;
            // The first one makes room for the others.
            if steps > 0 {
                *taken += started.elapsed().as_secs_f64();
            }
        }
        counted += if steps > 0 { count } else { 0 };
        steps += 1;
    }
    Ok(taken.into_iter().map(|taken| taken / counted.max(1) as f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_chosen_where_it_is_worth_its_fewer_bits() {
        let of = |speed| PrecisionChoice::Measured(speed).precision();
        assert_eq!([0.5, 1.05, WORTH, 3.0].map(of), [Precision::F32, Precision::F32, Precision::Bf16, Precision::Bf16]);
        let unit = Precision::Bf16.unit();
        let said = |choice: PrecisionChoice| choice.to_string();
        let slower = format!("products in f32: bf16 by {unit} has 0.9 times its speed here");
        assert_eq!(said(PrecisionChoice::Measured(0.9)), slower);
        let faster = format!("products in bf16 by {unit}: 3.1 times the speed of f32 here");
        assert_eq!(said(PrecisionChoice::Measured(3.1)), faster);
        for choice in [PrecisionChoice::NoUnit, PrecisionChoice::LayerNorm] {
            assert_eq!(choice.precision(), Precision::F32);
        }
        assert_eq!(PrecisionChoice::before_measuring(true), Some(PrecisionChoice::LayerNorm));
        assert_eq!(PrecisionChoice::before_measuring(false).is_none(), Precision::Bf16.has_unit());
    }

    #[test]
    fn a_precision_is_open_where_nothing_is_laid_over_it() {
        let open = |laid: fn(Precision) -> Precision| is_left_open(|precision| Ok::<_, ()>(laid(precision)));
        assert_eq!(open(|precision| precision), Ok(true));
        for decided in [|_| Precision::F32, |_| Precision::Bf16, |_| Precision::Bf16x3] {
            assert_eq!(open(decided), Ok(false));
        }
        assert_eq!(is_left_open(|_| Err("a sentence")), Err("a sentence"));
    }
}
