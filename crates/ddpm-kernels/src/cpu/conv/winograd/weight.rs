//! The weight gradient by the same transforms.
//!
//! A tile's outputs y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A are linear in the filter g; the transpose of that
//! map is dg = Gᵀ[(A dy Aᵀ) ⊙ (Bᵀ d B)]G. The last transform is taken once, of the sum over all
//! tiles, which is a matrix product at each of the (m+2)² points.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::transform::{Four, Linear, Tile, Transform, Two, both_axes};
use super::{collect, inputs_of, pixels, place, scatter};
use crate::cpu::conv::axis::Axis;
use crate::cpu::conv::gather::{Source, load, store};
use crate::cpu::conv::pack::Block;
use crate::cpu::conv::tile::{Lattice, max_rows, outer_products, with_rows};
use crate::cpu::scratch::Scratch;

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

impl WithSimd for Share<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.tile {
            Tile::Two => self.run::<S, Two>(simd),
            Tile::Four => self.run::<S, Four>(simd),
        }
    }
}

impl Share<'_> {
    #[inline(always)]
    fn run<S: Simd, T: Transform<S>>(mut self, simd: S) {
        let points = T::Input::TO * T::Input::TO;
        let inputs = self.source.channels[0] + self.source.channels[1];
        let outputs = self.channels;
        let most = (HELD / (points * (inputs + outputs) * 4)).max(TILES);
        let chunk = self.tiles.len().div_ceil(self.tiles.len().div_ceil(most));
        let mut read = Scratch::take(points * chunk * inputs);
        let mut slopes = Scratch::take(points * chunk * outputs);
        // `[point][block][input channel][lane]`
        let mut products = Scratch::take(points * inputs * outputs);
        products.fill(0.0);
        for start in self.tiles.clone().step_by(chunk) {
            let tiles = start..(start + chunk).min(self.tiles.end);
            let count = tiles.len();
            self.transform_inputs::<S, T>(simd, tiles.clone(), &mut read);
            self.transform_slopes::<S, T>(simd, tiles, &mut slopes);
            for (point, products) in products.chunks_exact_mut(inputs * outputs).enumerate() {
                let read = &read[point * count * inputs..][..count * inputs];
                let slopes = &slopes[point * count * outputs..][..count * outputs];
                for block in self.blocks {
                    let slopes = &slopes[block.first * count..][..count * block.width];
                    let sums = &mut products[block.first * inputs..][..inputs * block.width];
                    if block.vectors == 2 {
                        add_products::<S, 2>(simd, read, slopes, count, sums);
                    } else {
                        add_products::<S, 1>(simd, read, slopes, count, sums);
                    }
                }
            }
        }
        self.transform_back::<S, T>(simd, &products);
    }

    /// Bᵀ d B of all tiles, `[point][tile][input channel]`.
    #[inline(always)]
    fn transform_inputs<S: Simd, T: Transform<S>>(
        &self,
        simd: S,
        tiles: Range<usize>,
        to: &mut [f32],
    ) {
        let Source { images, channels } = self.source;
        let inputs = channels[0] + channels[1];
        let zeros = vec![0.0; channels[0].max(channels[1])];
        let stride = tiles.len() * inputs;
        for (k, tile) in tiles.enumerate() {
            let mut at = k * inputs;
            let place = place(self.grid(T::OUTPUTS), tile, T::OUTPUTS);
            for (images, channels) in std::iter::zip(images, channels) {
                let pixels = inputs_of::<S, T>(self.axes, images, channels, &zeros, place);
                for first in (0..channels).step_by(S::F32_LANES) {
                    let d = vectors::<S>(simd, T::Input::FROM, &pixels, first);
                    let d = both_axes::<S, T::Input>(simd, d);
                    scatter::<S, T>(&mut to[at..], stride, &d);
                    at += S::F32_LANES;
                }
            }
        }
    }

    /// A dy Aᵀ of all tiles, `[point][block][tile][lane]`.
    #[inline(always)]
    fn transform_slopes<S: Simd, T: Transform<S>>(
        &self,
        simd: S,
        tiles: Range<usize>,
        to: &mut [f32],
    ) {
        let size = [self.axes[0].output, self.axes[1].output];
        let zeros = vec![0.0; self.channels];
        let count = tiles.len();
        for (k, tile) in tiles.enumerate() {
            let place = place(self.grid(T::OUTPUTS), tile, T::OUTPUTS);
            let pixels = pixels(T::OUTPUTS, self.dy, size, self.channels, &zeros, place);
            for block in self.blocks {
                for lane in (0..block.width).step_by(S::F32_LANES) {
                    let dy = vectors::<S>(simd, T::OUTPUTS, &pixels, block.first + lane);
                    let dy = both_axes::<S, T::Slope>(simd, dy);
                    let at = block.first * count + k * block.width + lane;
                    scatter::<S, T>(&mut to[at..], count * self.channels, &dy);
                }
            }
        }
    }

    /// Gᵀ u G of the sums over all tiles.
    #[inline(always)]
    fn transform_back<S: Simd, T: Transform<S>>(&mut self, simd: S, products: &[f32]) {
        let inputs = self.source.channels[0] + self.source.channels[1];
        let size = self.sums.len() / self.blocks.len();
        for (block, sums) in self.blocks.iter().zip(self.sums.chunks_exact_mut(size)) {
            let len = inputs * block.width;
            for at in (0..len).step_by(S::F32_LANES) {
                let from = &products[block.first * inputs + at..];
                let u = collect::<S, T>(simd, from, inputs * self.channels);
                let g = both_axes::<S, T::Filter>(simd, u);
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

/// A vector of each of `n`×`n` pixels, zeros elsewhere.
#[inline(always)]
fn vectors<S: Simd>(
    simd: S,
    n: usize,
    pixels: &[[&[f32]; 6]; 6],
    first: usize,
) -> [[S::f32s; 6]; 6] {
    let mut d = [[simd.splat_f32s(0.0); 6]; 6];
    for y in 0..n {
        for x in 0..n {
            d[y][x] = load(simd, &pixels[y][x][first..][..S::F32_LANES]);
        }
    }
    d
}

/// sums `[input channel][lane]` += readᵀ · slopes, of `[tile][input channel]` and `[tile][lane]`.
#[inline(always)]
fn add_products<S: Simd, const N: usize>(
    simd: S,
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
                outer_products::<S, P, N>(simd, sums.as_mut_ptr(), left, right, [1, count]);
            }
        });
    }
}
