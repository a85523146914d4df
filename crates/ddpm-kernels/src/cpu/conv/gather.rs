//! One map from images to images: a convolution, or the transpose of one.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use super::axis::{Axis, Tap};
use super::pack::{Block, Matrix, cover, taps};
use super::tile::{max_rows, rows_times_matrix, with_rows};
use crate::cpu::Precision;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::words::{WithWords, Words, of_images};

/// Pixels of one task; a multiple of every tile height.
const CHUNK: usize = 16 * 14 * 3;

/// What is read: images whose channels are those of both slices, side by side.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) images: [&'a [f32]; 2],
    pub(crate) channels: [usize; 2],
}

/// What is added to a result before it is stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// `[out_channels]`, added everywhere.
    pub bias: Option<&'a [f32]>,
    /// `[batch, out_channels]`, added at every pixel of an image: the embedding of its time.
    pub shift: Option<&'a [f32]>,
    /// Of the output's shape.
    pub residual: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    /// Adds to `sum`, `width` channels of `image` from `first` on, which go to `at`.
    #[expect(
        clippy::too_many_arguments,
        reason = "a place in an image has as many parts"
    )]
    #[inline(always)]
    pub(crate) fn add<S: Simd>(
        &self,
        simd: S,
        mut sum: S::f32s,
        image: usize,
        channels: usize,
        first: usize,
        at: usize,
        width: usize,
    ) -> S::f32s {
        for (term, at) in [
            (self.bias, first),
            (self.shift, image * channels + first),
            (self.residual, at),
        ] {
            if let Some(term) = term {
                sum = simd.add_f32s(sum, load(simd, &term[at..][..width]));
            }
        }
        sum
    }
}

/// Writes `output`, images of `channels` channels, all of them.
pub(crate) fn gather(
    axes: &[Axis; 2],
    batch: usize,
    source: Source,
    weights: &Matrix,
    epilogue: Epilogue,
    output: &mut [f32],
    channels: usize,
) {
    assert_eq!(
        output.len(),
        batch * axes[0].output * axes[1].output * channels,
        "length of the output"
    );
    assert!(cover(&weights.blocks, channels), "weights of all channels");
    let pixels = batch * axes[0].source * axes[1].source;
    for (images, channels) in std::iter::zip(source.images, source.channels) {
        assert_eq!(images.len(), pixels * channels, "length of a source");
    }
    let (isa, precision) = (weights.isa, weights.precision);
    let words;
    let source = match precision {
        Precision::F32 => source,
        Precision::Bf16 => {
            words = [0, 1].map(|k| of_images(precision, isa, source.images[k], source.channels[k]));
            Source {
                images: words.each_ref().map(|(words, _)| &words[..]),
                channels: words.each_ref().map(|(_, channels)| *channels),
            }
        }
    };
    let zeros = vec![0.0; source.channels[0].max(source.channels[1])];
    let output = Disjoint::new(output);
    let map = Map {
        axes,
        source,
        zeros: &zeros,
        weights,
        epilogue,
        output: &output,
        channels,
    };
    let mut tasks = Vec::new();
    for row in 0..axes[0].phases.len() {
        for col in 0..axes[1].phases.len() {
            let pixels = batch * axes[0].count(row) * axes[1].count(col);
            let size = chunk(pixels);
            for start in (0..pixels).step_by(size) {
                for block in 0..weights.blocks.len() {
                    let pixels = start..(start + size).min(pixels);
                    tasks.push(([row, col], pixels, block));
                }
            }
        }
    }
    tasks.into_par_iter().for_each(|(phase, pixels, block)| {
        let task = Task {
            map: &map,
            phase,
            pixels,
            block,
        };
        precision.dispatch(isa, task);
    });
}

/// Smaller chunks where there are few pixels, so that every thread gets some.
fn chunk(pixels: usize) -> usize {
    if pixels >= 16 * CHUNK {
        CHUNK
    } else {
        CHUNK / 3
    }
}

struct Map<'a> {
    axes: &'a [Axis; 2],
    /// Words, and how many a pixel has.
    source: Source<'a>,
    /// What a tap outside the source reads.
    zeros: &'a [f32],
    weights: &'a Matrix,
    epilogue: Epilogue<'a>,
    output: &'a Disjoint<'a>,
    channels: usize,
}

/// Some pixels of one phase, counted through all images, and one block of channels.
struct Task<'a> {
    map: &'a Map<'a>,
    phase: [usize; 2],
    pixels: Range<usize>,
    block: usize,
}

/// One output pixel.
#[derive(Clone, Copy, Default)]
struct Site {
    image: usize,
    /// m of each axis.
    at: [usize; 2],
    /// Step·m of each axis.
    source: [usize; 2],
    /// The source pixel there, counted through all images, if it exists.
    pixel: usize,
}

impl WithWords for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        let block = self.map.weights.blocks[self.block];
        let axes = self.map.axes;
        let count = [axes[0].count(self.phase[0]), axes[1].count(self.phase[1])];
        let image = count[0] * count[1];
        let mut image_at = self.pixels.start / image;
        let mut at = [
            self.pixels.start % image / count[1],
            self.pixels.start % count[1],
        ];
        let mut sites = [Site::default(); 14];
        let mut left = self.pixels.len();
        while left > 0 {
            let tile = left.min(max_rows::<S>());
            for to in &mut sites[..tile] {
                let source = [axes[0].step * at[0], axes[1].step * at[1]];
                *to = Site {
                    image: image_at,
                    at,
                    source,
                    pixel: (image_at * axes[0].source + source[0]) * axes[1].source + source[1],
                };
                at[1] += 1;
                if at[1] == count[1] {
                    at = [at[0] + 1, 0];
                }
                if at[0] == count[0] {
                    at = [0, 0];
                    image_at += 1;
                }
            }
            with_rows!(S, tile, P => {
                let sites = sites.first_chunk::<P>().expect("a tile has at most fourteen rows");
                match block.vectors {
                    2 => self.tile::<S, W, P, 2>(simd, words, block, sites),
                    _ => self.tile::<S, W, P, 1>(simd, words, block, sites),
                }
            });
            left -= tile;
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn tile<S: Simd, W: Words<S>, const P: usize, const N: usize>(
        &self,
        simd: S,
        words: W,
        block: Block,
        sites: &[Site; P],
    ) {
        let mut acc = [[simd.splat_f32s(0.0); N]; P];
        let rows = &self.map.axes[0].phases[self.phase[0]];
        let cols = &self.map.axes[1].phases[self.phase[1]];
        let mut weights = self.map.weights.of(self.block, self.phase);
        for tap in taps(rows, cols) {
            for (images, channels) in
                std::iter::zip(self.map.source.images, self.map.source.channels)
            {
                if channels == 0 {
                    continue;
                }
                let rows = self.sources(sites, tap, images, channels);
                let (these, rest) = weights.split_at(channels * N * S::F32_LANES);
                weights = rest;
                #[allow(
                    unsafe_code,
                    reason = "the innermost loop has no room for bounds checks"
                )]
                // SAFETY: a row is a pixel inside the images, whose length `gather` has checked, or
                // it is `zeros`: either way `channels` words. `these` has as many rows.
                unsafe {
                    rows_times_matrix(simd, words, &mut acc, &rows, channels, these.as_ptr());
                }
            }
        }
        // A copy: `acc` itself is never indexed by a variable, so that it stays in registers.
        let mut sums = acc;
        for (sums, acc) in sums.iter_mut().zip(&acc) {
            *sums = *acc;
        }
        self.store(simd, block, sites, &sums);
    }

    /// The source row of each output pixel under one tap: `channels` floats.
    #[allow(
        clippy::needless_bitwise_bool,
        reason = "a branch here would be a gamble"
    )]
    #[inline(always)]
    fn sources<const P: usize>(
        &self,
        sites: &[Site; P],
        tap: [&Tap; 2],
        images: &[f32],
        channels: usize,
    ) -> [*const f32; P] {
        let mut rows = [self.map.zeros.as_ptr(); P];
        let [height, width] = [self.map.axes[0].source, self.map.axes[1].source];
        let shift = tap[0].offset * width.cast_signed() + tap[1].offset;
        for (row, site) in rows.iter_mut().zip(sites) {
            let y = site.source[0].wrapping_add_signed(tap[0].offset);
            let x = site.source[1].wrapping_add_signed(tap[1].offset);
            let pixel = site.pixel.wrapping_add_signed(shift);
            let inside = images.as_ptr().wrapping_add(pixel.wrapping_mul(channels));
            *row = if (y < height) & (x < width) {
                inside
            } else {
                *row
            };
        }
        rows
    }

    #[inline(always)]
    fn store<S: Simd, const P: usize, const N: usize>(
        &self,
        simd: S,
        block: Block,
        sites: &[Site; P],
        acc: &[[S::f32s; N]; P],
    ) {
        let axes = self.map.axes;
        let channels = self.map.channels;
        for (site, acc) in sites.iter().zip(acc) {
            let y = site.at[0] * axes[0].phases.len() + self.phase[0];
            let x = site.at[1] * axes[1].phases.len() + self.phase[1];
            let pixel = (site.image * axes[0].output + y) * axes[1].output + x;
            for (n, &sum) in acc.iter().enumerate() {
                let first = block.first + n * S::F32_LANES;
                let width = S::F32_LANES.min(block.first + block.width - first);
                let at = pixel * channels + first;
                let sum = self
                    .map
                    .epilogue
                    .add(simd, sum, site.image, channels, first, at, width);
                #[allow(unsafe_code, reason = "tasks share the output")]
                // SAFETY: phase, image and place within the phase determine a pixel uniquely,
                // every pixel and block belong to one task, and the blocks cover the channels.
                let to = unsafe { self.map.output.range(at..at + width) };
                store(simd, to, sum);
            }
        }
    }
}

/// A vector of at most its length of floats, zeros after them.
#[inline(always)]
pub(crate) fn load<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    match S::as_simd_f32s(from) {
        ([v], []) => *v,
        _ => simd.partial_load_f32s(from),
    }
}

/// As many floats of `v` as fit.
#[inline(always)]
pub(crate) fn store<S: Simd>(simd: S, to: &mut [f32], v: S::f32s) {
    match S::as_mut_simd_f32s(to) {
        ([to], []) => *to = v,
        _ => simd.partial_store_f32s(to, v),
    }
}
