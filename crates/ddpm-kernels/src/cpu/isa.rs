//! The instruction sets a kernel is compiled for, and the choice among them at run time.

use pulp::{Scalar, Simd, WithSimd};

/// An instruction set that every kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// [`Isa::Avx512`] with products of bf16: AVX512-BF16. Computes the same in f32.
    Avx512Bf16,
    /// Sixteen floats per vector, thirty-two registers: x86-64-v4.
    Avx512,
    /// Eight floats per vector, with fused multiply-add: x86-64-v3.
    Avx2,
    /// Four floats per vector: every 64-bit Arm processor.
    Neon,
    /// Plain Rust, for every other processor and for Miri.
    Portable,
}

impl Isa {
    /// The widest instruction set of this processor.
    pub fn detect() -> Self {
        Self::ALL
            .into_iter()
            .find(|isa| isa.is_available())
            .unwrap_or(Self::Portable)
    }

    /// All instruction sets, widest first.
    const ALL: [Self; 5] = [
        Self::Avx512Bf16,
        Self::Avx512,
        Self::Avx2,
        Self::Neon,
        Self::Portable,
    ];

    /// All instruction sets of this processor, widest first.
    pub fn available() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|isa| isa.is_available())
            .collect()
    }

    pub(super) fn is_available(self) -> bool {
        struct Nothing;
        impl WithSimd for Nothing {
            type Output = ();
            fn with_simd<S: Simd>(self, _: S) {}
        }
        self.try_dispatch(Nothing).is_ok()
    }

    /// Runs `op` compiled for this instruction set, or for [`Isa::Portable`] if the processor lacks
    /// this one.
    #[inline]
    pub fn dispatch<Op: WithSimd>(self, op: Op) -> Op::Output {
        self.try_dispatch(op)
            .unwrap_or_else(|op| op.with_simd(Scalar::new()))
    }

    /// Runs `op`, or returns it if the processor lacks the instruction set.
    #[inline]
    fn try_dispatch<Op: WithSimd>(self, op: Op) -> Result<Op::Output, Op> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => match avx512_bf16() {
                Some(simd) => Ok(Simd::vectorize(simd, op)),
                None => Err(op),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => match pulp::x86::V4::try_new() {
                Some(simd) => Ok(Simd::vectorize(simd, op)),
                None => Err(op),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => match pulp::x86::V3::try_new() {
                Some(simd) => Ok(Simd::vectorize(simd, op)),
                None => Err(op),
            },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => match pulp::aarch64::Neon::try_new() {
                Some(simd) => Ok(Simd::vectorize(simd, op)),
                None => Err(op),
            },
            Self::Portable => Ok(op.with_simd(Scalar::new())),
            #[allow(
                unreachable_patterns,
                reason = "which arms exist depends on the target"
            )]
            _ => Err(op),
        }
    }
}

/// AVX-512, if the processor has AVX512-BF16 as well.
#[cfg(target_arch = "x86_64")]
pub(super) fn avx512_bf16() -> Option<pulp::x86::V4> {
    pulp::x86::V4::try_new().filter(|_| std::arch::is_x86_feature_detected!("avx512bf16"))
}

/// Runs `op` in a function of its own, so that it is compiled once per instruction set, no matter
/// how many places call it.
#[inline(never)]
pub(super) fn outlined<S: Simd, Op: WithSimd>(simd: S, op: Op) -> Op::Output {
    simd.vectorize(op)
}

#[cfg(test)]
mod tests {
    use super::Isa;

    #[test]
    fn the_widest_set_is_detected_and_portable_is_available() {
        let available = Isa::available();
        assert_eq!(available.first(), Some(&Isa::detect()));
        assert_eq!(available.last(), Some(&Isa::Portable));
    }
}
