//! 3×3 convolutions of stride 1 with fewer multiplications.
//!
//! Winograd's minimal filtering F(m×m, 3×3) computes an m×m tile of outputs from its
//! (m+2)×(m+2) inputs d and the filter g as Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A (Lavin and Gray 2016,
//! arXiv:1509.09308, §4): (m+2)² multiplications instead of 9m², and these, summed over channels,
//! are (m+2)² matrix products. A task transforms some tiles of input, multiplies them, and
//! transforms them back, one block of output channels at a time, without leaving the cache.

#![allow(
    clippy::needless_range_loop,
    reason = "indices that are constants once unrolled"
)]

mod filters;
mod transform;
mod weight;

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::axis::Axis;
use super::gather::{Epilogue, Source, load, store};
use super::pack::cover;
use super::tile::{max_rows, rows_times_matrix, with_rows};
use crate::cpu::disjoint::Disjoint;
use crate::cpu::scratch::Scratch;
use crate::cpu::words::{WithWords, Words};
use transform::{Four, Square, Transform, Two, both_axes};

/// Bytes of transformed input that a task holds, about half of a core's second-level cache.
const HELD: usize = 256 << 10;

pub(crate) use filters::{Filters, applies};
pub(crate) use transform::Tile;
pub(crate) use weight::Share;

/// As [`super::gather::gather`].
pub(crate) fn gather(
    axes: &[Axis; 2],
    batch: usize,
    source: Source,
    filters: &Filters,
    epilogue: Epilogue,
    output: &mut [f32],
    channels: usize,
) {
    assert_eq!(
        output.len(),
        batch * axes[0].output * axes[1].output * channels,
        "length of the output"
    );
    assert!(cover(&filters.blocks, channels), "filters of all channels");
    let m = filters.tile.outputs();
    let n = filters.tile.inputs();
    let grid = [axes[0].output.div_ceil(m), axes[1].output.div_ceil(m)];
    let tiles = batch * grid[0] * grid[1];
    let inputs = (source.channels[0] + source.channels[1]) / filters.precision.numbers();
    // An even number of tasks of equal size, each a multiple of what registers hold.
    let rows = filters.isa.dispatch(Rows);
    // Twice the registers' rows at least: the filters are read once for every such pair.
    let most = (HELD / (n * n * inputs * 4)).max(2 * rows);
    let tasks = tiles.div_ceil(most).max(1).next_multiple_of(4);
    let size = tiles.div_ceil(tasks).max(1).next_multiple_of(rows);
    let zeros = vec![0.0; source.channels[0].max(source.channels[1])];
    let output = Disjoint::new(output);
    let map = Map {
        axes,
        source,
        zeros: &zeros,
        filters,
        epilogue,
        output: &output,
        channels,
        grid,
    };
    let starts: Vec<usize> = (0..tiles).step_by(size).collect();
    starts.into_par_iter().for_each(|start| {
        let tiles = start..(start + size).min(tiles);
        filters
            .precision
            .dispatch(filters.isa, Task { map: &map, tiles });
    });
}

/// The rows of a register tile.
struct Rows;

impl WithSimd for Rows {
    type Output = usize;
    fn with_simd<S: Simd>(self, _: S) -> usize {
        max_rows::<S>()
    }
}

struct Map<'a> {
    axes: &'a [Axis; 2],
    source: Source<'a>,
    /// What lies outside the source.
    zeros: &'a [f32],
    filters: &'a Filters,
    epilogue: Epilogue<'a>,
    output: &'a Disjoint<'a>,
    channels: usize,
    /// Rows and columns of tiles in an image.
    grid: [usize; 2],
}

/// Some tiles, counted through all images.
struct Task<'a> {
    map: &'a Map<'a>,
    tiles: Range<usize>,
}

impl WithWords for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        match self.map.filters.tile {
            Tile::Two => self.run::<S, W, Two, 2, 4>(simd, words),
            Tile::Four => self.run::<S, W, Four, 4, 6>(simd, words),
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
        let Source { channels, .. } = self.map.source;
        let inputs = (channels[0] + channels[1]) / W::NUMBERS;
        let count = self.tiles.len();
        let mut transformed = Scratch::take(points * count * inputs);
        let mut products = Scratch::take(points * count * 2 * S::F32_LANES);
        let (axes, zeros) = (self.map.axes, self.map.zeros);
        let place = |tile| place(self.map.grid, tile, M);
        for (k, tile) in self.tiles.clone().enumerate() {
            let mut to = k * inputs;
            for (images, channels) in std::iter::zip(self.map.source.images, channels) {
                let pixels = inputs_of::<N>(axes, images, channels, zeros, place(tile));
                let half = channels / W::NUMBERS;
                for first in (0..half).step_by(S::F32_LANES) {
                    let d = vectors::<S, N>(simd, &pixels, first);
                    let mut d = both_axes::<S, T::Input, N, N>(simd, d);
                    if W::NUMBERS > 1 {
                        let other = vectors::<S, N>(simd, &pixels, half + first);
                        let other = both_axes::<S, T::Input, N, N>(simd, other);
                        d = join::<S, W, N>(simd, words, &d, &other);
                    }
                    scatter::<S, N>(&mut transformed[to..], count * inputs, &d);
                    to += S::F32_LANES;
                }
            }
        }
        for (block, weights) in self.map.filters.blocks.iter().zip(&self.map.filters.data) {
            let points = transformed[..points * count * inputs]
                .chunks_exact(count * inputs)
                .zip(weights.chunks_exact(inputs * block.width))
                .zip(products.chunks_exact_mut(count * block.width));
            for ((x, w), to) in points {
                if block.vectors == 2 {
                    product::<S, W, 2>(simd, words, x, w, inputs, to);
                } else {
                    product::<S, W, 1>(simd, words, x, w, inputs, to);
                }
            }
            for (k, tile) in self.tiles.clone().enumerate() {
                for first in (0..block.width).step_by(S::F32_LANES) {
                    let from = &products[k * block.width + first..];
                    let sums = collect::<S, N>(simd, from, count * block.width);
                    let y = both_axes::<S, T::Output, N, M>(simd, sums);
                    self.write::<S, M>(simd, place(tile), block.first + first, &y);
                }
            }
        }
    }

    /// Stores a tile's outputs, those inside the image.
    #[inline(always)]
    fn write<S: Simd, const M: usize>(
        &self,
        simd: S,
        (image, [top, left]): Place,
        first: usize,
        y: &Square<S, M>,
    ) {
        let axes = self.map.axes;
        let channels = self.map.channels;
        for (row, y) in (top..axes[0].output).zip(y) {
            for (col, &y) in (left..axes[1].output).zip(y) {
                let pixel = (image * axes[0].output + row) * axes[1].output + col;
                let at = pixel * channels + first;
                let width = S::F32_LANES;
                let y = self
                    .map
                    .epilogue
                    .add(simd, y, image, channels, first, at, width);
                #[allow(unsafe_code, reason = "tasks share the output")]
                // SAFETY: every pixel lies in one tile, every tile in one task, and the blocks
                // cover the channels.
                let to = unsafe { self.map.output.range(at..at + width) };
                store(simd, to, y);
            }
        }
    }
}

/// The image of a tile and its first output row and column.
type Place = (usize, [usize; 2]);

/// Where tile number `tile` lies, if an image has `rows`·`cols` of them.
#[inline(always)]
fn place([rows, cols]: [usize; 2], tile: usize, outputs: usize) -> Place {
    let (image, tile) = (tile / (rows * cols), tile % (rows * cols));
    (image, [tile / cols * outputs, tile % cols * outputs])
}

/// The pixels of a tile's inputs, zeros outside the image.
#[inline(always)]
fn inputs_of<'a, const N: usize>(
    axes: &[Axis; 2],
    images: &'a [f32],
    channels: usize,
    zeros: &'a [f32],
    (image, start): Place,
) -> [[&'a [f32]; N]; N] {
    let first = [0, 1].map(|k| start[k].wrapping_add_signed(axes[k].phases[0][0].offset));
    let size = [axes[0].source, axes[1].source];
    pixels(images, size, channels, zeros, (image, first))
}

/// `N`×`N` pixels of an image, zeros outside it.
#[inline(always)]
fn pixels<'a, const N: usize>(
    images: &'a [f32],
    size: [usize; 2],
    channels: usize,
    zeros: &'a [f32],
    (image, [top, left]): Place,
) -> [[&'a [f32]; N]; N] {
    let mut pixels = [[&zeros[..channels]; N]; N];
    for (y, pixels) in pixels.iter_mut().enumerate() {
        let row = top.wrapping_add(y);
        for (x, to) in pixels.iter_mut().enumerate() {
            let col = left.wrapping_add(x);
            if row < size[0] && col < size[1] {
                let pixel = (image * size[0] + row) * size[1] + col;
                *to = &images[pixel * channels..][..channels];
            }
        }
    }
    pixels
}

/// Stores a tile's points `stride` floats apart.
#[inline(always)]
fn scatter<S: Simd, const N: usize>(to: &mut [f32], stride: usize, d: &Square<S, N>) {
    for y in 0..N {
        for x in 0..N {
            let to = &mut to[(y * N + x) * stride..][..S::F32_LANES];
            S::as_mut_simd_f32s(to).0[0] = d[y][x];
        }
    }
}

/// Loads a tile's points, `stride` floats apart.
#[inline(always)]
fn collect<S: Simd, const N: usize>(simd: S, from: &[f32], stride: usize) -> Square<S, N> {
    let mut d = [[simd.splat_f32s(0.0); N]; N];
    for y in 0..N {
        for x in 0..N {
            d[y][x] = load(simd, &from[(y * N + x) * stride..][..S::F32_LANES]);
        }
    }
    d
}

/// A vector of each of some pixels.
#[inline(always)]
fn vectors<S: Simd, const N: usize>(
    simd: S,
    pixels: &[[&[f32]; N]; N],
    first: usize,
) -> Square<S, N> {
    let mut d = [[simd.splat_f32s(0.0); N]; N];
    for y in 0..N {
        for x in 0..N {
            d[y][x] = load(simd, &pixels[y][x][first..][..S::F32_LANES]);
        }
    }
    d
}

/// Words of two tiles' points.
#[inline(always)]
fn join<S: Simd, W: Words<S>, const N: usize>(
    simd: S,
    words: W,
    d: &Square<S, N>,
    other: &Square<S, N>,
) -> Square<S, N> {
    let mut joined = [[simd.splat_f32s(0.0); N]; N];
    for y in 0..N {
        for x in 0..N {
            joined[y][x] = words.of(simd, [d[y][x], other[y][x]]);
        }
    }
    joined
}

/// to = x · w: rows of `inputs` words by a matrix `N` vectors wide.
#[inline(always)]
fn product<S: Simd, W: Words<S>, const N: usize>(
    simd: S,
    words: W,
    x: &[f32],
    w: &[f32],
    inputs: usize,
    to: &mut [f32],
) {
    let width = N * S::F32_LANES;
    assert!(w.len() >= inputs * width);
    let height = max_rows::<S>();
    for (x, to) in x.chunks(height * inputs).zip(to.chunks_mut(height * width)) {
        with_rows!(S, x.len() / inputs, P => {
            let mut acc = [[simd.splat_f32s(0.0); N]; P];
            let mut rows = [x.as_ptr(); P];
            for (p, row) in rows.iter_mut().enumerate() {
                *row = x[p * inputs..][..inputs].as_ptr();
            }
            #[allow(unsafe_code, reason = "the innermost loop has no room for bounds checks")]
            // SAFETY: the rows were cut to `inputs` words, the matrix was checked above.
            unsafe {
                rows_times_matrix(simd, words, &mut acc, &rows, inputs, w.as_ptr());
            }
            let mut to = S::as_mut_simd_f32s(to).0.chunks_exact_mut(N);
            for acc in acc {
                to.next().expect("as many rows").copy_from_slice(&acc);
            }
        });
    }
}
