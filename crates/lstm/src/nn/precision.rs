//! In how many bits products are made: those of training, and those of one token at a time.

use crate::named::{named, stored_as_text};

/// The precision of the factors of a training step's matrix products. Parameters, gradients, moments and all sums are f32 in
/// each, so a model trained in one is a model like any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 24 bits.
    #[default]
    F32,
    /// 16 to 17 bits: each factor in two bf16 (rounded, and the rest rounded), and three products. As near as training needs, and faster
    /// than f32 on a processor with AMX alone.
    Bf16x3,
    /// bf16, 8 bits with the range of f32: up to twice as fast on a processor with AVX512-BF16, more with AMX.
    ///
    /// The bits of a result, and of [`Self::Bf16x3`], are those of the unit that computes it, AMX or all others: they are the same on
    /// every processor whose other operations are and which has AMX or has not.
    Bf16,
}

named!(Precision, "precision", "f32" => F32, "bf16x3" => Bf16x3, "bf16" => Bf16);
stored_as_text!(Precision);

impl Precision {
    /// Runs `work` with every matrix product that it asks for in this precision.
    pub fn within<T>(self, work: impl FnOnce() -> T) -> T {
        lstm_kernels::with_precision(self.kernel(), work)
    }

    /// The name of what computes such products on this machine.
    pub fn unit(self) -> &'static str {
        match self {
            Self::F32 => lstm_kernels::isa(),
            Self::Bf16x3 | Self::Bf16 => lstm_kernels::pairs_isa(),
        }
    }

    /// Whether this machine has instructions for such products; else it computes them by those of f32, which is slower than f32.
    pub fn has_unit(self) -> bool {
        self == Self::F32 || self.unit() != lstm_kernels::isa()
    }

    /// Who has no instructions for such products, where [`Self::has_unit`] is false: this processor, or the set of instructions that the
    /// environment forces on it. A clause that a sentence goes on with "for bf16", or ends with.
    pub fn who_has_no_unit(self) -> String {
        match std::env::var("LSTM_ISA") {
            Ok(forced) if lstm_kernels::check_isa().is_ok() => format!("LSTM_ISA={forced} leaves no instructions"),
            _ => format!("this processor ({}) has no instructions", self.unit()),
        }
    }

    /// The most operations a second that this machine does in it, in GFLOP/s. The three products of bf16x3 count as one.
    pub fn peak_gflops(self) -> f64 {
        lstm_kernels::peak_gflops(self.kernel())
    }

    fn kernel(self) -> lstm_kernels::Precision {
        match self {
            Self::F32 => lstm_kernels::Precision::F32,
            Self::Bf16x3 => lstm_kernels::Precision::Bf16x3,
            Self::Bf16 => lstm_kernels::Precision::Bf16,
        }
    }
}

/// How the weights of a model that reads one token at a time are kept; a token costs the bytes of the weights it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// 4 bytes each.
    #[default]
    F32,
    /// Rounded to bf16: 2 bytes.
    Bf16,
    /// Whole multiples of a scale, one for every row of a weight: 1 byte. What is multiplied with them is rounded likewise.
    Int8,
}

named!(Weights, "weights", "f32" => F32, "bf16" => Bf16, "int8" => Int8);

impl Weights {
    pub(crate) fn kernel(self) -> lstm_kernels::Weights {
        match self {
            Self::F32 => lstm_kernels::Weights::F32,
            Self::Bf16 => lstm_kernels::Weights::Bf16,
            Self::Int8 => lstm_kernels::Weights::Int8,
        }
    }

    /// The bytes of a weight.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::Int8 => 1,
        }
    }
}
