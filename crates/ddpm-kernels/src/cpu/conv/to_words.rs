//! Images and matrices of f32, packed into words.

use pulp::Simd;
use rayon::prelude::*;

use crate::cpu::isa::Isa;
use crate::cpu::precision::Precision;
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::{load, store};
use crate::cpu::words::{WithWords, Words, dispatch};

/// Pixels of a task.
const TASK: usize = 256;

/// The words of images with `channels` channels, and how many a pixel has. Channel j shares a word
/// with channel j + ⌈channels/2⌉.
pub(crate) fn of_images(
    precision: Precision,
    isa: Isa,
    images: &[f32],
    channels: usize,
) -> (Scratch, usize) {
    let words = channels.div_ceil(precision.numbers());
    let pixels = images.len() / channels.max(1);
    let mut to = Scratch::take(pixels * words);
    (to.par_chunks_mut((TASK * words).max(1)))
        .zip(images.par_chunks((TASK * channels).max(1)))
        .for_each(|(to, from)| {
            let rows = OfRows { from, channels, to };
            dispatch(precision, isa, rows);
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

/// The words of matrices whose rows correspond to the channels of two inputs, to be multiplied with
/// those of [`of_images`]: rows j and j + ⌈channels/2⌉ of an input become one row of `width` words.
pub(crate) fn of_matrices(
    precision: Precision,
    isa: Isa,
    matrices: Vec<f32>,
    channels: [usize; 2],
    width: usize,
) -> Vec<f32> {
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
    let op = OfMatrices {
        channels,
        width,
        from: &matrices,
        to: &mut to,
    };
    dispatch(precision, isa, op);
    to
}

/// Matrices to pack.
struct OfMatrices<'a> {
    channels: [usize; 2],
    width: usize,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl WithWords for OfMatrices<'_> {
    type Output = ();

    #[inline(always)]
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        let (width, mut from, mut to) = (self.width, self.from, self.to);
        while !from.is_empty() {
            for channels in self.channels {
                let rows = channels.div_ceil(W::NUMBERS);
                let (these, others) = from.split_at(channels * width);
                let (words_of_these, rest) = to.split_at_mut(rows * width);
                of_row(simd, words, these.split_at(rows * width), words_of_these);
                (from, to) = (others, rest);
            }
        }
    }
}
