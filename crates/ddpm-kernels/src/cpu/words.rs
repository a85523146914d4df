//! What the products of convolutions multiply: f32, or bf16 by pairs.
//!
//! A *word* fills the place of an f32. It is one, or it holds two bf16 whose products are both
//! added to one f32 sum: `vdpbf16ps` of AVX512-BF16. A product over n numbers then has ⌈n/2⌉ terms,
//! and the loops are the same. Which numbers share a word is a matter of packing: both operands
//! only have to agree.

use pulp::{Scalar, Simd, WithSimd};
use rayon::prelude::*;

use super::Isa;
use super::conv::{load, store};
use super::scratch::Scratch;

/// What the factors of a convolution's products are rounded to. Sums are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Not rounded.
    #[default]
    F32,
    /// To eight significant bits: by AVX512-BF16 where [`Isa::detect`] finds it. Elsewhere the same
    /// is computed, slowly, by plain Rust.
    Bf16,
}

impl Precision {
    /// The instruction set that computes in this precision if `isa` was asked for.
    pub(crate) fn on(self, isa: Isa) -> Isa {
        match self {
            Self::F32 => isa,
            Self::Bf16 if isa == Isa::Avx512Bf16 && isa.is_available() => isa,
            Self::Bf16 => Isa::Portable,
        }
    }

    /// Numbers in a word.
    pub(crate) fn numbers(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
        }
    }

    /// Runs `op` for the words of this precision and an instruction set that [`on`](Self::on) gave.
    pub(crate) fn dispatch<Op: WithWords>(self, isa: Isa, op: Op) -> Op::Output {
        match self {
            Self::F32 => isa.dispatch(OfFloats(op)),
            #[cfg(target_arch = "x86_64")]
            Self::Bf16 if isa == Isa::Avx512Bf16 => native::dispatch(op),
            Self::Bf16 => op.with_words(Scalar::new(), Pairs),
        }
    }
}

/// An operation that is compiled for an instruction set and a kind of words.
pub(crate) trait WithWords {
    type Output;
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) -> Self::Output;
}

/// A kind of words.
pub(crate) trait Words<S: Simd>: Copy {
    /// Numbers in a word.
    const NUMBERS: usize;
    /// sum + x·w, over all numbers of the words.
    fn mul_add(self, simd: S, x: S::f32s, w: S::f32s, sum: S::f32s) -> S::f32s;
    /// Words of these numbers; those beyond [`Self::NUMBERS`] are left out.
    fn of(self, simd: S, numbers: [S::f32s; 2]) -> S::f32s;
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
}

struct OfFloats<Op>(Op);

impl<Op: WithWords> WithSimd for OfFloats<Op> {
    type Output = Op::Output;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Op::Output {
        self.0.with_words(simd, Floats)
    }
}

/// A word is two bf16, the first number in its lower half: what `vdpbf16ps` does, spelt out.
#[derive(Clone, Copy)]
pub(crate) struct Pairs;

impl Pairs {
    /// A bf16 is the upper half of an f32.
    fn numbers(word: f32) -> [f32; 2] {
        let bits = word.to_bits();
        [bits << 16, bits & 0xffff_0000].map(f32::from_bits)
    }

    /// The nearest bf16 in the lower half, of two equally near the even one; NaN stays NaN.
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
}

/// The same by the instructions of AVX512-BF16.
#[cfg(target_arch = "x86_64")]
mod native {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_permutexvar_epi16,
    };
    use std::mem::transmute;

    use pulp::Simd;
    use pulp::x86::V4;

    use super::{WithWords, Words};

    /// Exists only where [`dispatch`] has found the instructions.
    #[derive(Clone, Copy)]
    pub(super) struct Native(());

    /// Places of the lower and the upper halves, in turns.
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
            // SAFETY: vectors of 64 bytes of any bits; the instruction exists, as `self` does.
            unsafe {
                let [x, w] = [x, w].map(|v| transmute::<Vector, __m512bh>(v));
                transmute(_mm512_dpbf16_ps(transmute::<Vector, __m512>(sum), x, w))
            }
        }

        #[inline(always)]
        fn of(self, _: V4, numbers: [Vector; 2]) -> Vector {
            // SAFETY: vectors of 64 bytes of any bits; the instructions exist, as `self` does.
            unsafe {
                let [low, high] = numbers.map(|v| transmute::<Vector, __m512>(v));
                let halves = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                let places = transmute::<[u16; 32], __m512i>(INTERLEAVED);
                transmute(_mm512_permutexvar_epi16(places, halves))
            }
        }
    }

    /// Runs `op` compiled for AVX-512 and AVX512-BF16.
    ///
    /// # Panics
    /// If the processor lacks them.
    #[inline]
    #[allow(
        unsafe_code,
        reason = "a function compiled for a processor's instructions"
    )]
    pub(super) fn dispatch<Op: WithWords>(op: Op) -> Op::Output {
        #[target_feature(
            enable = "sse3,ssse3,sse4.1,sse4.2,popcnt,avx,avx2,bmi1,bmi2,fma,lzcnt",
            enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16"
        )]
        fn run<Op: WithWords>(simd: V4, op: Op) -> Op::Output {
            op.with_words(simd, Native(()))
        }
        let simd = super::super::isa::avx512_bf16().expect("AVX512-BF16");
        // SAFETY: the processor has all that V4 stands for, and AVX512-BF16.
        unsafe { run(simd, op) }
    }
}

/// Words of images of so many channels: channel j shares a word with channel j + ⌈channels/2⌉.
pub(crate) fn of_images(
    precision: Precision,
    isa: Isa,
    images: &[f32],
    channels: usize,
) -> (Scratch, usize) {
    /// Pixels of a task.
    const SOME: usize = 256;
    let words = channels.div_ceil(precision.numbers());
    let pixels = images.len() / channels.max(1);
    let mut to = Scratch::take(pixels * words);
    (to.par_chunks_mut((SOME * words).max(1)))
        .zip(images.par_chunks((SOME * channels).max(1)))
        .for_each(|(to, from)| {
            let rows = OfRows { from, channels, to };
            precision.dispatch(isa, rows);
        });
    (to, words)
}

/// Rows of `channels` numbers, which become rows of words.
struct OfRows<'a> {
    from: &'a [f32],
    channels: usize,
    to: &'a mut [f32],
}

impl WithWords for OfRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        let width = self.channels.div_ceil(W::NUMBERS);
        let rows = self.from.chunks_exact(self.channels);
        for (from, to) in rows.zip(self.to.chunks_exact_mut(width)) {
            of_row(simd, words, from.split_at(width), to);
        }
    }
}

/// Words of the numbers in both halves; the second may be shorter.
#[inline(always)]
fn of_row<S: Simd, W: Words<S>>(
    simd: S,
    words: W,
    (first, second): (&[f32], &[f32]),
    to: &mut [f32],
) {
    for at in (0..to.len()).step_by(S::F32_LANES) {
        let lanes = |x: &[f32]| {
            let end = x.len().min(at + S::F32_LANES);
            load(simd, &x[at.min(end)..end])
        };
        let vector = words.of(simd, [lanes(first), lanes(second)]);
        let end = to.len().min(at + S::F32_LANES);
        store(simd, &mut to[at..end], vector);
    }
}

/// Words of matrices whose rows are numbered by the channels of two inputs, for products with those
/// of [`of_images`]: rows j and j + ⌈channels/2⌉ of an input become one, of `width` words.
pub(crate) fn of_matrices(
    precision: Precision,
    isa: Isa,
    matrices: Vec<f32>,
    channels: [usize; 2],
    width: usize,
) -> Vec<f32> {
    struct OfMatrices<'a>([usize; 2], usize, &'a [f32], &'a mut [f32]);
    impl WithWords for OfMatrices<'_> {
        type Output = ();
        #[inline(always)]
        fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
            let Self(channels, width, mut from, mut to) = self;
            while !from.is_empty() {
                for channels in channels {
                    let rows = channels.div_ceil(W::NUMBERS);
                    let (these, others) = from.split_at(channels * width);
                    let (words_of_these, rest) = to.split_at_mut(rows * width);
                    of_row(simd, words, these.split_at(rows * width), words_of_these);
                    (from, to) = (others, rest);
                }
            }
        }
    }
    let numbers = precision.numbers();
    if numbers == 1 || matrices.is_empty() {
        return matrices;
    }
    let matrix = width * channels.iter().sum::<usize>();
    let rows: usize = channels
        .iter()
        .map(|channels| channels.div_ceil(numbers))
        .sum();
    let mut to = vec![0.0; matrices.len() / matrix * rows * width];
    precision.dispatch(isa, OfMatrices(channels, width, &matrices, &mut to));
    to
}
