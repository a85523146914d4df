//! A convolution or its transpose, by Winograd's tiles.
//!
//! A task transforms some tiles of input, multiplies them, and transforms them back, one block of
//! output channels at a time, without leaving the cache.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use super::filters::Filters;
use super::tiles::{TileGrid, TilePlace, collect, input_pixels, join, scatter, vectors};
use super::transform::{F2, F4, Square, Transform, both_axes};
use super::variant::Variant;
use crate::cpu::conv::epilogue::OutputPlace;
use crate::cpu::conv::map::ImageMap;
use crate::cpu::conv::tile::{Product, Segment, max_rows, max_rows_of};
use crate::cpu::disjoint::Disjoint;
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::store;
use crate::cpu::words::{WithWords, Words, dispatch};

/// Bytes of transformed input in a task, about half of a core's second-level cache.
const TASK_BYTES: usize = 256 << 10;

/// Writes all of `output`, the images that `map` makes of its source.
///
/// # Panics
///
/// If a length does not match.
pub(crate) fn convolve(map: &ImageMap<'_>, filters: &Filters, output: &mut [f32]) {
    map.check(output.len(), &filters.blocks);
    let n = filters.variant.inputs();
    let grid = TileGrid::new(map.axes, filters.variant.outputs());
    let tiles = map.batch * grid.count();
    let inputs = map.source.inputs() / filters.precision.numbers();
    // An even number of tasks of equal size, each a multiple of a register tile's rows. A task has at
    // least twice these rows: the filters are read once per pair of register tiles.
    let rows = max_rows_of(filters.isa);
    let most = (TASK_BYTES / (n * n * inputs * 4)).max(2 * rows);
    let tasks = tiles.div_ceil(most).max(1).next_multiple_of(4);
    let size = tiles.div_ceil(tasks).max(1).next_multiple_of(rows);
    let zeros = vec![0.0; map.source.most_channels()];
    let shared = Shared {
        map,
        zeros: &zeros,
        filters,
        output: &Disjoint::new(output),
        grid,
    };
    let starts: Vec<usize> = (0..tiles).step_by(size).collect();
    starts.into_par_iter().for_each(|start| {
        let task = Task {
            shared: &shared,
            tiles: start..(start + size).min(tiles),
        };
        dispatch(filters.precision, filters.isa, task);
    });
}

/// What all tasks share.
struct Shared<'a> {
    map: &'a ImageMap<'a>,
    /// Read in place of pixels outside the source.
    zeros: &'a [f32],
    filters: &'a Filters,
    output: &'a Disjoint<'a>,
    grid: TileGrid,
}

/// Some tiles, counted through all images.
struct Task<'a> {
    shared: &'a Shared<'a>,
    tiles: Range<usize>,
}

impl WithWords for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        match self.shared.filters.variant {
            Variant::F2 => self.run::<S, W, F2, 2, 4>(simd, words),
            Variant::F4 => self.run::<S, W, F4, 4, 6>(simd, words),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, W: Words<S>, T: Transform<S, M, N>, const M: usize, const N: usize>(
        &self,
        simd: S,
        words: W,
    ) {
        let points = N * N;
        let inputs = self.shared.map.source.inputs() / W::NUMBERS;
        let count = self.tiles.len();
        let mut transformed = Scratch::take(points * count * inputs);
        let mut products = Scratch::take(points * count * 2 * S::F32_LANES);
        self.transform_inputs::<S, W, T, M, N>(simd, words, &mut transformed);
        let filters = self.shared.filters;
        for (block, weights) in filters.blocks.iter().zip(&filters.data) {
            let width = block.width;
            let points = transformed
                .chunks_exact(count * inputs)
                .zip(weights.chunks_exact(inputs * width))
                .zip(products.chunks_exact_mut(count * width));
            for ((x, w), to) in points {
                product(simd, words, x, inputs, (w, block.vectors), to);
            }
            for (k, tile) in self.tiles.clone().enumerate() {
                let place = self.shared.grid.place(tile, M);
                for lane in (0..width).step_by(S::F32_LANES) {
                    let from = &products[k * width + lane..];
                    let sums = collect::<S, N>(simd, from, count * width);
                    let y = both_axes::<S, T::Output, N, M>(simd, sums);
                    self.write::<S, M>(simd, place, block.first + lane, &y);
                }
            }
        }
    }

    /// Bᵀ d B of all tiles, `[point][tile][word of channels]`.
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
        to: &mut [f32],
    ) {
        let Shared {
            map, zeros, grid, ..
        } = *self.shared;
        let inputs = map.source.inputs() / W::NUMBERS;
        let stride = self.tiles.len() * inputs;
        for (k, tile) in self.tiles.clone().enumerate() {
            let place = grid.place(tile, M);
            let mut at = k * inputs;
            for (images, channels) in std::iter::zip(map.source.images, map.source.channels) {
                let pixels = input_pixels::<N>(map.axes, images, channels, zeros, place);
                let half = channels / W::NUMBERS;
                for first in (0..half).step_by(S::F32_LANES) {
                    let d = vectors::<S, N>(simd, &pixels, first);
                    let mut d = both_axes::<S, T::Input, N, N>(simd, d);
                    if W::NUMBERS > 1 {
                        let other = vectors::<S, N>(simd, &pixels, half + first);
                        let other = both_axes::<S, T::Input, N, N>(simd, other);
                        d = join::<S, W, N>(simd, words, &d, &other);
                    }
                    scatter::<S, N>(&mut to[at..], stride, &d);
                    at += S::F32_LANES;
                }
            }
        }
    }

    /// Stores a tile's outputs, those inside the image.
    #[inline(always)]
    fn write<S: Simd, const M: usize>(
        &self,
        simd: S,
        TilePlace { image, start }: TilePlace,
        first: usize,
        y: &Square<S, M>,
    ) {
        let ImageMap {
            axes,
            channels,
            epilogue,
            ..
        } = *self.shared.map;
        for (row, y) in (start[0]..axes[0].output).zip(y) {
            for (col, &y) in (start[1]..axes[1].output).zip(y) {
                let pixel = (image * axes[0].output + row) * axes[1].output + col;
                let place = OutputPlace {
                    image,
                    at: pixel * channels + first,
                    first,
                    width: S::F32_LANES,
                };
                let y = epilogue.add(simd, y, place, channels);
                #[allow(unsafe_code, reason = "tasks share the output")]
                // SAFETY: every pixel lies in one tile, every tile in one task, and the blocks
                // cover the channels.
                let to = unsafe { self.shared.output.range(place.at..place.at + place.width) };
                store(simd, to, y);
            }
        }
    }
}

/// to = x · w: rows of `inputs` words by a matrix some vectors wide.
#[inline(always)]
fn product<S: Simd, W: Words<S>>(
    simd: S,
    words: W,
    x: &[f32],
    inputs: usize,
    (weights, vectors): (&[f32], usize),
    to: &mut [f32],
) {
    let (height, width) = (max_rows::<S>(), vectors * S::F32_LANES);
    for (x, sums) in x.chunks(height * inputs).zip(to.chunks_mut(height * width)) {
        let product = Product {
            segments: &[Segment::contiguous(x, inputs)],
            height: x.len() / inputs,
            vectors,
            weights,
            sums,
        };
        product.compute(simd, words);
    }
}
