//! Tiles of images: where they lie, and how their points are read and written.

#![allow(
    clippy::needless_range_loop,
    reason = "indices that are constants once unrolled"
)]

use pulp::Simd;

use super::transform::Square;
use crate::cpu::conv::axis::Axis;
use crate::cpu::simd::load;
use crate::cpu::words::Words;

/// The image of a tile and its first output row and column.
#[derive(Clone, Copy)]
pub(super) struct TilePlace {
    pub(super) image: usize,
    pub(super) start: [usize; 2],
}

/// The rows and columns of tiles in an image.
#[derive(Clone, Copy)]
pub(super) struct TileGrid([usize; 2]);

impl TileGrid {
    /// The tiles of `outputs`×`outputs` pixels that cover the outputs.
    pub(super) fn new(axes: &[Axis; 2], outputs: usize) -> Self {
        Self([0, 1].map(|k| axes[k].output.div_ceil(outputs)))
    }

    /// The number of tiles in an image.
    pub(super) fn count(self) -> usize {
        self.0[0] * self.0[1]
    }

    /// The place of a tile of `outputs`×`outputs` pixels, counted through all images.
    #[inline(always)]
    pub(super) fn place(self, tile: usize, outputs: usize) -> TilePlace {
        let (image, tile) = (tile / self.count(), tile % self.count());
        let start = [tile / self.0[1] * outputs, tile % self.0[1] * outputs];
        TilePlace { image, start }
    }
}

/// The inputs of a tile, zeros outside the image.
#[inline(always)]
pub(super) fn input_pixels<'a, const N: usize>(
    axes: &[Axis; 2],
    images: &'a [f32],
    channels: usize,
    zeros: &'a [f32],
    place: TilePlace,
) -> [[&'a [f32]; N]; N] {
    let start = [0, 1].map(|k| place.start[k].wrapping_add_signed(axes[k].phases[0][0].offset));
    let size = [axes[0].source, axes[1].source];
    pixels(images, size, channels, zeros, TilePlace { start, ..place })
}

/// `N`×`N` pixels of an image, zeros outside it.
#[inline(always)]
pub(super) fn pixels<'a, const N: usize>(
    images: &'a [f32],
    size: [usize; 2],
    channels: usize,
    zeros: &'a [f32],
    TilePlace { image, start }: TilePlace,
) -> [[&'a [f32]; N]; N] {
    let mut pixels = [[&zeros[..channels]; N]; N];
    for (y, pixels) in pixels.iter_mut().enumerate() {
        let row = start[0].wrapping_add(y);
        for (x, to) in pixels.iter_mut().enumerate() {
            let col = start[1].wrapping_add(x);
            if row < size[0] && col < size[1] {
                let pixel = (image * size[0] + row) * size[1] + col;
                *to = &images[pixel * channels..][..channels];
            }
        }
    }
    pixels
}

/// Loads one vector, from channel `first` on, of each pixel.
#[inline(always)]
pub(super) fn vectors<S: Simd, const N: usize>(
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

/// Stores a tile's points `stride` floats apart.
#[inline(always)]
pub(super) fn scatter<S: Simd, const N: usize>(to: &mut [f32], stride: usize, d: &Square<S, N>) {
    for y in 0..N {
        for x in 0..N {
            let to = &mut to[(y * N + x) * stride..][..S::F32_LANES];
            S::as_mut_simd_f32s(to).0[0] = d[y][x];
        }
    }
}

/// Loads a tile's points, `stride` floats apart.
#[inline(always)]
pub(super) fn collect<S: Simd, const N: usize>(
    simd: S,
    from: &[f32],
    stride: usize,
) -> Square<S, N> {
    let mut d = [[simd.splat_f32s(0.0); N]; N];
    for y in 0..N {
        for x in 0..N {
            d[y][x] = load(simd, &from[(y * N + x) * stride..][..S::F32_LANES]);
        }
    }
    d
}

/// Words of two tiles' points.
#[inline(always)]
pub(super) fn join<S: Simd, W: Words<S>, const N: usize>(
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
