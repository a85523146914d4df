//! The precision of a convolution's products.

use super::isa::Isa;

/// What the factors of a convolution's products are rounded to. Sums are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Not rounded.
    #[default]
    F32,
    /// Eight significant bits. Uses AVX512-BF16 where [`Isa::detect`] finds it; elsewhere plain Rust
    /// computes the same, slowly.
    Bf16,
}

impl Precision {
    /// The instruction set that computes in this precision when `isa` was asked for.
    pub(crate) fn on(self, isa: Isa) -> Isa {
        match self {
            Self::F32 => isa,
            Self::Bf16 if isa == Isa::Avx512Bf16 && isa.is_available() => isa,
            Self::Bf16 => Isa::Portable,
        }
    }

    /// The number of factors in a word: see `words`.
    pub(crate) fn numbers(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
        }
    }
}
