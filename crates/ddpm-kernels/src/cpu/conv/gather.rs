//! One map from images to images: a convolution, or the transpose of one.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::axis::{Axis, Tap};
use super::pack::{Block, Matrix, taps};
use super::tile::{max_rows, rows_times_matrix, with_rows};
use crate::cpu::disjoint::Disjoint;

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
        weights.isa.dispatch(Task {
            map: &map,
            phase,
            pixels,
            block,
        });
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
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let block = self.map.weights.blocks[self.block];
        let count = [0, 1].map(|k| self.map.axes[k].count(self.phase[k]));
        let image = count[0] * count[1];
        let mut site = Site {
            image: self.pixels.start / image,
            at: [
                self.pixels.start % image / count[1],
                self.pixels.start % count[1],
            ],
        };
        let mut sites = [Site::default(); 14];
        let mut left = self.pixels.len();
        while left > 0 {
            let tile = left.min(max_rows::<S>());
            for to in &mut sites[..tile] {
                *to = site;
                site.at[1] += 1;
                if site.at[1] == count[1] {
                    site.at = [site.at[0] + 1, 0];
                }
                if site.at[0] == count[0] {
                    site = Site {
                        image: site.image + 1,
                        at: [0, 0],
                    };
                }
            }
            with_rows!(S, tile, P => {
                let sites = sites.first_chunk::<P>().expect("a tile has at most fourteen rows");
                match block.vectors {
                    2 => self.tile::<S, P, 2>(simd, block, sites),
                    _ => self.tile::<S, P, 1>(simd, block, sites),
                }
            });
            left -= tile;
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn tile<S: Simd, const P: usize, const N: usize>(
        &self,
        simd: S,
        block: Block,
        sites: &[Site; P],
    ) {
        let mut acc = [[simd.splat_f32s(0.0); N]; P];
        let [rows, cols] = [0, 1].map(|k| &self.map.axes[k].phases[self.phase[k]][..]);
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
                // SAFETY: `sources` returns rows of `channels` floats, `these` is as long.
                unsafe {
                    let rows = rows.map(<[f32]>::as_ptr);
                    rows_times_matrix(simd, &mut acc, &rows, channels, these.as_ptr());
                }
            }
        }
        self.store(simd, block, sites, &acc);
    }

    /// The source row of each output pixel under one tap.
    #[inline(always)]
    fn sources<'b, const P: usize>(
        &'b self,
        sites: &[Site; P],
        tap: [&Tap; 2],
        images: &'b [f32],
        channels: usize,
    ) -> [&'b [f32]; P] {
        let mut rows = [&self.map.zeros[..channels]; P];
        let axes = self.map.axes;
        for (row, site) in rows.iter_mut().zip(sites) {
            let y = (site.at[0] * axes[0].step).wrapping_add_signed(tap[0].offset);
            let x = (site.at[1] * axes[1].step).wrapping_add_signed(tap[1].offset);
            if y < axes[0].source && x < axes[1].source {
                let pixel = (site.image * axes[0].source + y) * axes[1].source + x;
                *row = &images[pixel * channels..][..channels];
            }
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
        let Epilogue {
            bias,
            shift,
            residual,
        } = self.map.epilogue;
        let axes = self.map.axes;
        let channels = self.map.channels;
        for (site, acc) in sites.iter().zip(acc) {
            let y = site.at[0] * axes[0].phases.len() + self.phase[0];
            let x = site.at[1] * axes[1].phases.len() + self.phase[1];
            let pixel = (site.image * axes[0].output + y) * axes[1].output + x;
            for (n, &sum) in acc.iter().enumerate() {
                let first = block.first + n * S::F32_LANES;
                let width = S::F32_LANES.min(block.first + block.width - first);
                let mut sum = sum;
                for (term, at) in [
                    (bias, first),
                    (shift, site.image * channels + first),
                    (residual, pixel * channels + first),
                ] {
                    if let Some(term) = term {
                        let term = simd.partial_load_f32s(&term[at..][..width]);
                        sum = simd.add_f32s(sum, term);
                    }
                }
                let at = pixel * channels + first;
                #[allow(unsafe_code, reason = "tasks share the output")]
                // SAFETY: phase, image and place within the phase determine a pixel uniquely,
                // and every pixel and block belong to one task.
                let to = unsafe { self.map.output.range(at..at + width) };
                simd.partial_store_f32s(to, sum);
            }
        }
    }
}
