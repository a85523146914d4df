//! What the products of convolutions multiply: f32, or pairs of bf16.
//!
//! A *word* is 32 bits: one f32, or two bf16 whose products are both added to one f32 sum
//! (`vdpbf16ps` of AVX512-BF16). With pairs, a product over n numbers has ⌈n/2⌉ terms; the loops are
//! the same. Packing decides which numbers share a word; both operands must use the same order.

use pulp::{Scalar, Simd, WithSimd};

use super::isa::Isa;
use super::precision::Precision;

/// An operation that is compiled for an instruction set and a kind of words.
pub(crate) trait WithWords {
    type Output;
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) -> Self::Output;
}

/// Runs `op` with the words of a precision, on an instruction set that [`Precision::on`] returned.
pub(crate) fn dispatch<Op: WithWords>(precision: Precision, isa: Isa, op: Op) -> Op::Output {
    match precision {
        Precision::F32 => isa.dispatch(OfFloats(op)),
        #[cfg(target_arch = "x86_64")]
        Precision::Bf16 if isa == Isa::Avx512Bf16 => native::dispatch(op),
        Precision::Bf16 => op.with_words(Scalar::new(), Pairs),
    }
}

/// Runs `op` in a function of its own, so that it is compiled once per instruction set and kind of
/// words, no matter how many places call it.
#[inline(never)]
pub(crate) fn outlined<S: Simd, W: Words<S>, Op: WithWords>(
    simd: S,
    words: W,
    op: Op,
) -> Op::Output {
    words.vectorize(simd, op)
}

/// A kind of words.
pub(crate) trait Words<S: Simd>: Copy {
    /// The number of factors in a word.
    const NUMBERS: usize;
    /// sum + x·w, over all numbers of the words.
    fn mul_add(self, simd: S, x: S::f32s, w: S::f32s, sum: S::f32s) -> S::f32s;
    /// Words of these numbers; those beyond [`Self::NUMBERS`] are left out.
    fn of(self, simd: S, numbers: [S::f32s; 2]) -> S::f32s;
    /// Runs `op` in a function that is compiled for the instruction set.
    fn vectorize<Op: WithWords>(self, simd: S, op: Op) -> Op::Output;
}

/// A word is an f32.
#[derive(Clone, Copy)]
pub(crate) struct Floats;

impl<S: Simd> Words<S> for Floats {
    const NUMBERS: usize = 1;

    #[inline(always)]
    fn mul_add(self, simd: S, x: S::f32s, w: S::f32s, sum: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(x, w, sum)
    }

    #[inline(always)]
    fn of(self, _: S, [number, _]: [S::f32s; 2]) -> S::f32s {
        number
    }

    #[inline(always)]
    fn vectorize<Op: WithWords>(self, simd: S, op: Op) -> Op::Output {
        simd.vectorize(OfFloats(op))
    }
}

struct OfFloats<Op>(Op);

impl<Op: WithWords> WithSimd for OfFloats<Op> {
    type Output = Op::Output;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Op::Output {
        self.0.with_words(simd, Floats)
    }
}

/// A word is two bf16, the first number in its lower half. Computes in plain Rust what `vdpbf16ps`
/// does.
#[derive(Clone, Copy)]
pub(crate) struct Pairs;

impl Pairs {
    /// A bf16 is the upper half of an f32.
    fn numbers(word: f32) -> [f32; 2] {
        let bits = word.to_bits();
        [bits << 16, bits & 0xffff_0000].map(f32::from_bits)
    }

    /// The nearest bf16, in the lower half; ties go to the even one and NaN stays NaN.
    fn rounded(x: f32) -> u32 {
        let bits = x.to_bits();
        if x.is_nan() {
            return bits >> 16 | 0x40;
        }
        (bits + 0x7fff + (bits >> 16 & 1)) >> 16
    }
}

impl Words<Scalar> for Pairs {
    const NUMBERS: usize = 2;

    #[inline(always)]
    fn mul_add(self, _: Scalar, x: f32, w: f32, sum: f32) -> f32 {
        let ([x, x2], [w, w2]) = (Self::numbers(x), Self::numbers(w));
        x.mul_add(w, x2.mul_add(w2, sum))
    }

    #[inline(always)]
    fn of(self, _: Scalar, [x, x2]: [f32; 2]) -> f32 {
        f32::from_bits(Self::rounded(x) | Self::rounded(x2) << 16)
    }

    #[inline(always)]
    fn vectorize<Op: WithWords>(self, simd: Scalar, op: Op) -> Op::Output {
        op.with_words(simd, self)
    }
}

/// Pairs of bf16 with the instructions of AVX512-BF16.
#[cfg(target_arch = "x86_64")]
mod native {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_permutexvar_epi16,
    };
    use std::mem::transmute;

    use pulp::Simd;
    use pulp::x86::V4;

    use super::super::isa::avx512_bf16;
    use super::{WithWords, Words};

    /// Exists only where [`dispatch`] has found the instructions.
    #[derive(Clone, Copy)]
    pub(super) struct Native(());

    /// The indices that interleave the lower halves with the upper halves.
    const INTERLEAVED: [u16; 32] = {
        let mut places = [0; 32];
        let mut k = 0;
        while k < 16 {
            places[2 * k as usize] = k;
            places[2 * k as usize + 1] = k + 16;
            k += 1;
        }
        places
    };

    type Vector = <V4 as Simd>::f32s;

    #[allow(unsafe_code, reason = "instructions of a processor")]
    impl Words<V4> for Native {
        const NUMBERS: usize = 2;

        #[inline(always)]
        fn mul_add(self, _: V4, x: Vector, w: Vector, sum: Vector) -> Vector {
            // SAFETY: all types are 64 bytes and any bits are valid; `self` proves that the
            // instruction exists.
            unsafe {
                let [x, w] = [x, w].map(|v| transmute::<Vector, __m512bh>(v));
                transmute(_mm512_dpbf16_ps(transmute::<Vector, __m512>(sum), x, w))
            }
        }

        #[inline(always)]
        fn of(self, _: V4, numbers: [Vector; 2]) -> Vector {
            // SAFETY: all types are 64 bytes and any bits are valid; `self` proves that the
            // instructions exist.
            unsafe {
                let [low, high] = numbers.map(|v| transmute::<Vector, __m512>(v));
                let halves = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                let places = transmute::<[u16; 32], __m512i>(INTERLEAVED);
                transmute(_mm512_permutexvar_epi16(places, halves))
            }
        }

        #[inline(always)]
        fn vectorize<Op: WithWords>(self, simd: V4, op: Op) -> Op::Output {
            // SAFETY: `simd` and `self` prove that the processor has the features.
            unsafe { run(simd, self, op) }
        }
    }

    /// Runs `op` compiled for AVX-512 and AVX512-BF16.
    ///
    /// # Panics
    ///
    /// If the processor lacks them.
    pub(super) fn dispatch<Op: WithWords>(op: Op) -> Op::Output {
        let simd = avx512_bf16().expect("AVX512-BF16");
        Native(()).vectorize(simd, op)
    }

    #[target_feature(
        enable = "sse3,ssse3,sse4.1,sse4.2,popcnt,avx,avx2,bmi1,bmi2,fma,lzcnt",
        enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16"
    )]
    fn run<Op: WithWords>(simd: V4, words: Native, op: Op) -> Op::Output {
        op.with_words(simd, words)
    }
}
