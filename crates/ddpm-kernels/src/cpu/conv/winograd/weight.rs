//! The weight gradient by the same transforms.
//!
//! A tile's outputs y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A are linear in the filter g; the transpose of that
//! map is dg = Gᵀ[(A dy Aᵀ) ⊙ (Bᵀ d B)]G. The last transform is taken once, of the sum over all
//! tiles, which is a matrix product at each of the (m+2)² points.

use std::ops::Range;

use pulp::Simd;

use super::transform::{Four, Linear, Square, Tile, Transform, Two, both_axes};
use super::{collect, inputs_of, join, pixels, place, scatter, vectors};
use crate::cpu::conv::axis::Axis;
use crate::cpu::conv::gather::{Source, store};
use crate::cpu::conv::pack::Block;
use crate::cpu::conv::tile::{Lattice, max_rows, outer_products, with_rows};
use crate::cpu::scratch::Scratch;
use crate::cpu::words::{WithWords, Words};

/// Bytes of transformed images that a task holds, unless that is too few tiles.
const HELD: usize = 2 << 20;
/// At least so many tiles between two visits to the same sums.
const TILES: usize = 32;

/// Some tiles of the output, which give their sums.
pub(crate) struct Share<'a> {
    pub(crate) tile: Tile,
    pub(crate) axes: &'a [Axis; 2],
    pub(crate) source: Source<'a>,
    pub(crate) dy: &'a [f32],
    pub(crate) channels: usize,
    pub(crate) blocks: &'a [Block],
    /// Counted through all images.
    pub(crate) tiles: Range<usize>,
    /// `[block][tap][input channel][lane]`
    pub(crate) sums: &'a mut [f32],
}

impl WithWords for Share<'_> {
    type Output = ();

    #[inline(always)]
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        match self.tile {
            Tile::Two => self.run::<S, W, Two, 2, 4>(simd, words),
            Tile::Four => self.run::<S, W, Four, 4, 6>(simd, words),
        }
    }
}

impl Share<'_> {
    #[inline(always)]
    fn run<S: Simd, W: Words<S>, T: Transform<S, M, N>, const M: usize, const N: usize>(
        mut self,
        simd: S,
        words: W,
    ) {
        let points = N * N;
        let inputs = self.source.channels[0] + self.source.channels[1];
        let outputs = self.channels;
        let most = (HELD / (points * (inputs + outputs) * 4)).max(TILES);
        let chunks = self.tiles.len().div_ceil(most).max(1);
        let chunk = self.tiles.len().div_ceil(chunks).max(1);
        let mut read = Scratch::take(points * chunk * inputs);
        let mut slopes = Scratch::take(points * chunk * outputs);
        // `[point][block][input channel][lane]`
        let mut products = Scratch::take(points * inputs * outputs);
        products.fill(0.0);
        for start in self.tiles.clone().step_by(chunk) {
            let tiles = start..(start + chunk).min(self.tiles.end);
            let count = tiles.len().div_ceil(W::NUMBERS);
            self.transform_inputs::<S, W, T, M, N>(simd, words, tiles.clone(), &mut read);
            self.transform_slopes::<S, W, T, M, N>(simd, words, tiles, &mut slopes);
            for (point, products) in products.chunks_exact_mut(inputs * outputs).enumerate() {
                let read = &read[point * count * inputs..][..count * inputs];
                let slopes = &slopes[point * count * outputs..][..count * outputs];
                for block in self.blocks {
                    let slopes = &slopes[block.first * count..][..count * block.width];
                    let sums = &mut products[block.first * inputs..][..inputs * block.width];
                    if block.vectors == 2 {
                        add_products::<S, W, 2>(simd, words, read, slopes, count, sums);
                    } else {
                        add_products::<S, W, 1>(simd, words, read, slopes, count, sums);
                    }
                }
            }
        }
        self.transform_back::<S, T, M, N>(simd, &products);
    }

    /// Bᵀ d B of all tiles, `[point][word of tiles][input channel]`.
    #[inline(always)]
    fn transform_inputs<
        S: Simd,
        W: Words<S>,
        T: Transform<S, M, N>,
        const M: usize,
        const N: usize,
    >(
        &self,
        simd: S,
        words: W,
        tiles: Range<usize>,
        to: &mut [f32],
    ) {
        let Source { images, channels } = self.source;
        let inputs = channels[0] + channels[1];
        let zeros = vec![0.0; channels[0].max(channels[1])];
        let stride = tiles.len().div_ceil(W::NUMBERS) * inputs;
        for (k, word) in tiles.clone().step_by(W::NUMBERS).enumerate() {
            let mut at = k * inputs;
            for (images, channels) in std::iter::zip(images, channels) {
                let of = |tile: usize| {
                    let place = place(self.grid(M), tile, M);
                    inputs_of::<N>(self.axes, images, channels, &zeros, place)
                };
                let pixels = of(word);
                let others = (word + 1 < tiles.end).then(|| of(word + 1));
                for first in (0..channels).step_by(S::F32_LANES) {
                    let d = transformed::<S, W, T::Input, N, N>(
                        simd,
                        words,
                        &pixels,
                        others.as_ref(),
                        first,
                    );
                    scatter::<S, N>(&mut to[at..], stride, &d);
                    at += S::F32_LANES;
                }
            }
        }
    }

    /// A dy Aᵀ of all tiles, `[point][block][word of tiles][lane]`.
    #[inline(always)]
    fn transform_slopes<
        S: Simd,
        W: Words<S>,
        T: Transform<S, M, N>,
        const M: usize,
        const N: usize,
    >(
        &self,
        simd: S,
        words: W,
        tiles: Range<usize>,
        to: &mut [f32],
    ) {
        let size = [self.axes[0].output, self.axes[1].output];
        let zeros = vec![0.0; self.channels];
        let count = tiles.len().div_ceil(W::NUMBERS);
        for (k, word) in tiles.clone().step_by(W::NUMBERS).enumerate() {
            let of = |tile: usize| {
                let place = place(self.grid(M), tile, M);
                pixels::<M>(self.dy, size, self.channels, &zeros, place)
            };
            let pixels = of(word);
            let others = (word + 1 < tiles.end).then(|| of(word + 1));
            for block in self.blocks {
                for lane in (0..block.width).step_by(S::F32_LANES) {
                    let first = block.first + lane;
                    let dy = transformed::<S, W, T::Slope, M, N>(
                        simd,
                        words,
                        &pixels,
                        others.as_ref(),
                        first,
                    );
                    let at = block.first * count + k * block.width + lane;
                    scatter::<S, N>(&mut to[at..], count * self.channels, &dy);
                }
            }
        }
    }

    /// Gᵀ u G of the sums over all tiles.
    #[inline(always)]
    fn transform_back<S: Simd, T: Transform<S, M, N>, const M: usize, const N: usize>(
        &mut self,
        simd: S,
        products: &[f32],
    ) {
        let inputs = self.source.channels[0] + self.source.channels[1];
        let size = self.sums.len() / self.blocks.len();
        for (block, sums) in self.blocks.iter().zip(self.sums.chunks_exact_mut(size)) {
            let len = inputs * block.width;
            for at in (0..len).step_by(S::F32_LANES) {
                let from = &products[block.first * inputs + at..];
                let u = collect::<S, N>(simd, from, inputs * self.channels);
                let g = both_axes::<S, T::Filter, N, 3>(simd, u);
                for y in 0..3 {
                    for x in 0..3 {
                        let to = &mut sums[(y * 3 + x) * len + at..][..S::F32_LANES];
                        store(simd, to, g[y][x]);
                    }
                }
            }
        }
    }

    /// Rows and columns of tiles in an image.
    fn grid(&self, outputs: usize) -> [usize; 2] {
        [0, 1].map(|k| self.axes[k].output.div_ceil(outputs))
    }
}

/// `L` along both axes of some pixels, in words with the same of the `others`.
#[inline(always)]
fn transformed<S: Simd, W: Words<S>, L: Linear<S, FROM, TO>, const FROM: usize, const TO: usize>(
    simd: S,
    words: W,
    pixels: &[[&[f32]; FROM]; FROM],
    others: Option<&[[&[f32]; FROM]; FROM]>,
    first: usize,
) -> Square<S, TO> {
    let d = both_axes::<S, L, FROM, TO>(simd, vectors(simd, pixels, first));
    if W::NUMBERS == 1 {
        return d;
    }
    let mut other = [[simd.splat_f32s(0.0); TO]; TO];
    if let Some(others) = others {
        other = both_axes::<S, L, FROM, TO>(simd, vectors(simd, others, first));
    }
    join::<S, W, TO>(simd, words, &d, &other)
}

/// sums `[input channel][lane]` += readᵀ · slopes, of `[word of tiles][input channel]` and
/// `[word of tiles][lane]`.
#[inline(always)]
fn add_products<S: Simd, W: Words<S>, const N: usize>(
    simd: S,
    words: W,
    read: &[f32],
    slopes: &[f32],
    count: usize,
    sums: &mut [f32],
) {
    let width = N * S::F32_LANES;
    let inputs = sums.len() / width;
    assert!(read.len() >= count * inputs && slopes.len() >= count * width);
    // Heights as equal as can be: a low tile would wait for its own sums.
    let tiles = inputs.div_ceil(max_rows::<S>());
    let right = Lattice {
        start: slopes.as_ptr(),
        row: 0,
        col: width,
    };
    for tile in 0..tiles {
        let first = inputs * tile / tiles;
        let height = inputs * (tile + 1) / tiles - first;
        let left = Lattice {
            start: read[first..].as_ptr(),
            row: 0,
            col: inputs,
        };
        let sums = &mut sums[first * width..][..height * width];
        with_rows!(S, height, P => {
            #[allow(unsafe_code, reason = "the innermost loop has no room for bounds checks")]
            // SAFETY: both operands have `count` rows, of `inputs` floats, `P` of them from
            // `first` on, and of `N` vectors; `sums` was cut to the tile.
            unsafe {
                outer_products::<S, W, P, N>(simd, words, sums.as_mut_ptr(), left, right, [1, count]);
            }
        });
    }
}
