//! A convolution or its transpose, by register tiles of output pixels.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use super::weights::DirectWeights;
use crate::cpu::conv::axis::{Tap, taps};
use crate::cpu::conv::blocks::Block;
use crate::cpu::conv::epilogue::OutputPlace;
use crate::cpu::conv::map::{ImageMap, Source};
use crate::cpu::conv::tile::{MAX_ROWS, Product, Segment, max_rows};
use crate::cpu::conv::to_words::of_images;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::precision::Precision;
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::store;
use crate::cpu::words::{WithWords, Words, dispatch};

/// Pixels of one task; a multiple of every tile height.
const TASK: usize = 16 * 14 * 3;

/// Writes all of `output`, the images that `map` makes of its source.
///
/// # Panics
///
/// If a length does not match.
pub(crate) fn convolve(map: &ImageMap<'_>, weights: &DirectWeights, output: &mut [f32]) {
    map.check(output.len(), &weights.blocks);
    let ImageMap {
        axes,
        batch,
        source,
        ..
    } = *map;
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
    let zeros = vec![0.0; source.most_channels()];
    let shared = &Shared {
        map: &ImageMap { source, ..*map },
        zeros: &zeros,
        weights,
        output: &Disjoint::new(output),
    };
    let mut tasks = Vec::new();
    for row in 0..axes[0].phases.len() {
        for col in 0..axes[1].phases.len() {
            let pixels = batch * axes[0].count(row) * axes[1].count(col);
            let size = task_size(pixels);
            for start in (0..pixels).step_by(size) {
                for block in 0..weights.blocks.len() {
                    tasks.push(Task {
                        shared,
                        phase: [row, col],
                        pixels: start..(start + size).min(pixels),
                        block,
                    });
                }
            }
        }
    }
    (tasks.into_par_iter()).for_each(|task| dispatch(precision, isa, task));
}

/// Pixels of a task: fewer if there are few, so that every thread gets some.
fn task_size(pixels: usize) -> usize {
    if pixels >= 16 * TASK { TASK } else { TASK / 3 }
}

/// What all tasks share.
struct Shared<'a> {
    /// Its source is in words.
    map: &'a ImageMap<'a>,
    /// Read in place of pixels outside the source.
    zeros: &'a [f32],
    weights: &'a DirectWeights,
    output: &'a Disjoint<'a>,
}

/// Some pixels of one phase, counted through all images, and one block of channels.
struct Task<'a> {
    shared: &'a Shared<'a>,
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
    /// step·m of each axis.
    source: [usize; 2],
    /// The source pixel there, counted through all images, if it exists.
    pixel: usize,
}

impl WithWords for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        let block = self.shared.weights.blocks[self.block];
        let weights = self.shared.weights.of(self.block, self.phase);
        let mut segments = Vec::new();
        let mut sums = Scratch::take(MAX_ROWS * 2 * S::F32_LANES);
        let mut sites = [Site::default(); MAX_ROWS];
        for start in self.pixels.clone().step_by(max_rows::<S>()) {
            let height = max_rows::<S>().min(self.pixels.end - start);
            let sites = &mut sites[..height];
            self.find(start, sites);
            self.read(sites, &mut segments);
            let product = Product {
                segments: &segments,
                height,
                vectors: block.vectors,
                weights,
                sums: &mut sums,
            };
            product.compute(simd, words);
            self.store(simd, block, sites, &sums);
        }
    }
}

impl<'a> Task<'a> {
    /// Finds consecutive pixels of this phase from number `start` on.
    #[inline(always)]
    fn find(&self, start: usize, sites: &mut [Site]) {
        let axes = self.shared.map.axes;
        let count = [axes[0].count(self.phase[0]), axes[1].count(self.phase[1])];
        let mut image = start / (count[0] * count[1]);
        let mut at = [start / count[1] % count[0], start % count[1]];
        for to in sites {
            let source = [axes[0].step * at[0], axes[1].step * at[1]];
            *to = Site {
                image,
                at,
                source,
                pixel: (image * axes[0].source + source[0]) * axes[1].source + source[1],
            };
            at[1] += 1;
            if at[1] == count[1] {
                at = [at[0] + 1, 0];
            }
            if at[0] == count[0] {
                at = [0, 0];
                image += 1;
            }
        }
    }

    /// The source rows of the pixels: a segment for each tap and input.
    #[inline(always)]
    fn read(&self, sites: &[Site], segments: &mut Vec<Segment<'a>>) {
        let map = self.shared.map;
        let [rows, cols] = [0, 1].map(|k| &map.axes[k].phases[self.phase[k]]);
        segments.clear();
        for tap in taps(rows, cols) {
            for (images, channels) in std::iter::zip(map.source.images, map.source.channels) {
                if channels > 0 {
                    segments.push(self.segment(sites, tap, images, channels));
                }
            }
        }
    }

    /// The source row of each output pixel under one tap.
    #[allow(
        clippy::needless_bitwise_bool,
        reason = "a branch would often be mispredicted"
    )]
    #[inline(always)]
    fn segment(
        &self,
        sites: &[Site],
        tap: [&Tap; 2],
        images: &'a [f32],
        channels: usize,
    ) -> Segment<'a> {
        let axes = self.shared.map.axes;
        let [height, width] = [axes[0].source, axes[1].source];
        let shift = tap[0].offset * width.cast_signed() + tap[1].offset;
        let pixels = sites.iter().map(|site| {
            let y = site.source[0].wrapping_add_signed(tap[0].offset);
            let x = site.source[1].wrapping_add_signed(tap[1].offset);
            let inside = (y < height) & (x < width);
            (inside, site.pixel.wrapping_add_signed(shift))
        });
        Segment::pixels(images, self.shared.zeros, channels, pixels)
    }

    /// Stores the pixels' `sums`, `[pixel][lane]`, with the epilogue added.
    #[inline(always)]
    fn store<S: Simd>(&self, simd: S, block: Block, sites: &[Site], sums: &[f32]) {
        let ImageMap {
            axes,
            channels,
            epilogue,
            ..
        } = *self.shared.map;
        let rows = sums.chunks_exact(block.vectors * S::F32_LANES);
        for (site, sums) in sites.iter().zip(rows) {
            let y = site.at[0] * axes[0].phases.len() + self.phase[0];
            let x = site.at[1] * axes[1].phases.len() + self.phase[1];
            let pixel = (site.image * axes[0].output + y) * axes[1].output + x;
            for (lane, &sum) in (0..).step_by(S::F32_LANES).zip(S::as_simd_f32s(sums).0) {
                let first = block.first + lane;
                let place = OutputPlace {
                    image: site.image,
                    at: pixel * channels + first,
                    first,
                    width: S::F32_LANES.min(block.width - lane),
                };
                let sum = epilogue.add(simd, sum, place, channels);
                #[allow(unsafe_code, reason = "tasks share the output")]
                // SAFETY: phase, image and place within the phase determine a pixel uniquely,
                // every pixel and block belong to one task, and the blocks cover the channels.
                let to = unsafe { self.shared.output.range(place.at..place.at + place.width) };
                store(simd, to, sum);
            }
        }
    }
}
