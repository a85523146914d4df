//! The weight gradient by the same transforms.
//!
//! A tile's outputs y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A are linear in the filter g; the transpose of that
//! map is dg = Gᵀ[(A dy Aᵀ) ⊙ (Bᵀ d B)]G. The last transform is taken once, of the sum over all
//! tiles, which is a matrix product at each of the (m+2)² points.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use super::tiles::{TileGrid, collect, input_pixels, join, pixels, scatter, vectors};
use super::transform::{F2, F4, Linear, Square, Transform, both_axes};
use super::variant::Variant;
use crate::cpu::conv::blocks::Block;
use crate::cpu::conv::map::{Source, WeightGradient};
use crate::cpu::conv::shares::{Shares, TASKS};
use crate::cpu::conv::tile::{Lattice, OuterProducts, computed_rows, max_rows};
use crate::cpu::isa::Isa;
use crate::cpu::precision::Precision;
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::{lanes, store};
use crate::cpu::words::{WithWords, Words, dispatch};

/// The least number of tiles in a share: every share has sums of its own to clear and to add.
const SHARE: usize = 96;
/// The most bytes of transformed images in a chunk of tiles, unless these are too few tiles.
const CHUNK_BYTES: usize = 2 << 20;
/// The least number of tiles in a chunk, after which the same sums are visited again.
const CHUNK: usize = 32;

/// The sums of all shares.
pub(crate) fn weight_gradient(
    (isa, precision): (Isa, Precision),
    variant: Variant,
    gradient: &WeightGradient<'_>,
    blocks: &[Block],
) -> Shares {
    let WeightGradient {
        axes,
        batch,
        source,
        ..
    } = *gradient;
    let grid = TileGrid::new(axes, variant.outputs());
    let tiles = batch * grid.count();
    // Even, for an equal load on two, four, … cores.
    let shares = (tiles / SHARE).clamp(1, TASKS);
    let shares = (shares - shares % 2).max(1);
    let mut partial = Shares::new(axes, source.inputs(), lanes(isa), blocks.len(), shares);
    let share_len = blocks.len() * partial.size;
    let tasks: Vec<_> = (partial.sums.chunks_exact_mut(share_len).enumerate())
        .map(|(share, sums)| Task {
            variant,
            gradient,
            blocks,
            grid,
            tiles: tiles * share / shares..tiles * (share + 1) / shares,
            sums,
        })
        .collect();
    (tasks.into_par_iter()).for_each(|task| dispatch(precision, isa, task));
    partial
}

/// Some tiles of the output, which give their sums.
struct Task<'a> {
    variant: Variant,
    gradient: &'a WeightGradient<'a>,
    blocks: &'a [Block],
    grid: TileGrid,
    /// Counted through all images.
    tiles: Range<usize>,
    /// `[block][tap][input channel][lane]`
    sums: &'a mut [f32],
}

impl WithWords for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        match self.variant {
            Variant::F2 => self.run::<S, W, F2, 2, 4>(simd, words),
            Variant::F4 => self.run::<S, W, F4, 4, 6>(simd, words),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, W: Words<S>, T: Transform<S, M, N>, const M: usize, const N: usize>(
        mut self,
        simd: S,
        words: W,
    ) {
        let points = N * N;
        let (inputs, outputs) = (self.gradient.source.inputs(), self.gradient.channels);
        let most = (CHUNK_BYTES / (points * (inputs + outputs) * 4)).max(CHUNK);
        let chunks = self.tiles.len().div_ceil(most).max(1);
        let chunk = self.tiles.len().div_ceil(chunks).max(1);
        // One word more, which a register tile of odd height reads.
        let mut d = Scratch::take(points * chunk * inputs + 1);
        let mut dy = Scratch::take(points * chunk * outputs);
        // `[point][block][input channel][lane]`
        let mut products = Scratch::take(points * inputs * outputs);
        products.fill(0.0);
        for start in self.tiles.clone().step_by(chunk) {
            let tiles = start..(start + chunk).min(self.tiles.end);
            let count = tiles.len().div_ceil(W::NUMBERS);
            self.transform_inputs::<S, W, T, M, N>(simd, words, tiles.clone(), &mut d);
            self.transform_gradients::<S, W, T, M, N>(simd, words, tiles, &mut dy);
            for (point, products) in products.chunks_exact_mut(inputs * outputs).enumerate() {
                let d = &d[point * count * inputs..];
                let dy = &dy[point * count * outputs..][..count * outputs];
                for block in self.blocks {
                    let dy = &dy[block.first * count..][..count * block.width];
                    let sums = &mut products[block.first * inputs..][..inputs * block.width];
                    add_products(simd, words, (d, inputs), (dy, block.vectors), count, sums);
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
        let Source { images, channels } = self.gradient.source;
        let inputs = self.gradient.source.inputs();
        let zeros = vec![0.0; self.gradient.source.most_channels()];
        let stride = tiles.len().div_ceil(W::NUMBERS) * inputs;
        for (k, word) in tiles.clone().step_by(W::NUMBERS).enumerate() {
            let mut at = k * inputs;
            for (images, channels) in std::iter::zip(images, channels) {
                let of = |tile: usize| {
                    let place = self.grid.place(tile, M);
                    input_pixels::<N>(self.gradient.axes, images, channels, &zeros, place)
                };
                let pixels = of(word);
                let others = (word + 1 < tiles.end).then(|| of(word + 1));
                let pair = (&pixels, others.as_ref());
                for first in (0..channels).step_by(S::F32_LANES) {
                    let d = transformed::<S, W, T::Input, N, N>(simd, words, pair, first);
                    scatter::<S, N>(&mut to[at..], stride, &d);
                    at += S::F32_LANES;
                }
            }
        }
    }

    /// A dy Aᵀ of all tiles, `[point][block][word of tiles][lane]`.
    #[inline(always)]
    fn transform_gradients<
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
        let WeightGradient {
            axes, dy, channels, ..
        } = *self.gradient;
        let size = [axes[0].output, axes[1].output];
        let zeros = vec![0.0; channels];
        let count = tiles.len().div_ceil(W::NUMBERS);
        for (k, word) in tiles.clone().step_by(W::NUMBERS).enumerate() {
            let of = |tile: usize| {
                let place = self.grid.place(tile, M);
                pixels::<M>(dy, size, channels, &zeros, place)
            };
            let pixels = of(word);
            let others = (word + 1 < tiles.end).then(|| of(word + 1));
            let pair = (&pixels, others.as_ref());
            for block in self.blocks {
                for lane in (0..block.width).step_by(S::F32_LANES) {
                    let first = block.first + lane;
                    let dy = transformed::<S, W, T::OutputGradient, M, N>(simd, words, pair, first);
                    let at = block.first * count + k * block.width + lane;
                    scatter::<S, N>(&mut to[at..], count * channels, &dy);
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
        let (inputs, outputs) = (self.gradient.source.inputs(), self.gradient.channels);
        let size = self.sums.len() / self.blocks.len();
        for (block, sums) in self.blocks.iter().zip(self.sums.chunks_exact_mut(size)) {
            let len = inputs * block.width;
            for at in (0..len).step_by(S::F32_LANES) {
                let from = &products[block.first * inputs + at..];
                let u = collect::<S, N>(simd, from, inputs * outputs);
                let g = both_axes::<S, T::Filter, N, 3>(simd, u);
                for (tap, &g) in g.iter().flatten().enumerate() {
                    let to = &mut sums[tap * len + at..][..S::F32_LANES];
                    store(simd, to, g);
                }
            }
        }
    }
}

/// The pixels of a tile, and those of the tile that shares its words, if there is one.
type PixelPair<'a, const N: usize> = (&'a [[&'a [f32]; N]; N], Option<&'a [[&'a [f32]; N]; N]>);

/// `L` along both axes of a vector, from channel `first` on, of each pixel, in words of both tiles.
#[inline(always)]
fn transformed<S: Simd, W: Words<S>, L: Linear<S, FROM, TO>, const FROM: usize, const TO: usize>(
    simd: S,
    words: W,
    (pixels, others): PixelPair<'_, FROM>,
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

/// sums `[input channel][lane]` += dᵀ · dy, of `[word of tiles][input channel]` and
/// `[word of tiles][lane]`, for `count` words of tiles.
#[inline(always)]
fn add_products<S: Simd, W: Words<S>>(
    simd: S,
    words: W,
    (d, inputs): (&[f32], usize),
    (dy, vectors): (&[f32], usize),
    count: usize,
    sums: &mut [f32],
) {
    let width = vectors * S::F32_LANES;
    let right = Lattice::new(dy, 0, [0, width], [1, count], width);
    // Nearly equal heights: a low register tile waits for its own sums.
    let tiles = inputs.div_ceil(max_rows::<S>());
    let pairs = inputs.div_ceil(2);
    for tile in 0..tiles {
        let first = 2 * (pairs * tile / tiles);
        let end = inputs.min(2 * (pairs * (tile + 1) / tiles));
        let height = end - first;
        let products = OuterProducts {
            left: Lattice::new(d, first, [0, inputs], [1, count], computed_rows(height)),
            right,
            height,
            vectors,
            sums: &mut sums[first * width..end * width],
        };
        products.add(simd, words);
    }
}
