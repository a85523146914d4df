//! The weight gradient: for every tap, the outer products of input and output gradient, summed over
//! pixels.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use crate::cpu::conv::axis::{phases, taps};
use crate::cpu::conv::blocks::Block;
use crate::cpu::conv::map::WeightGradient;
use crate::cpu::conv::shares::{Shares, TASKS};
use crate::cpu::conv::tile::{Lattice, OuterProducts, computed_rows, max_rows};
use crate::cpu::isa::Isa;
use crate::cpu::precision::Precision;
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::{lanes, load, store};
use crate::cpu::words::{WithWords, Words, dispatch};

/// The least number of pixels in a share: every share has sums of its own to clear and to add.
const SHARE: usize = 512;
/// The most blocks of output channels in a task, which copies its input once.
const GROUP: usize = 4;
/// About the number of pixels between two visits to the same sums.
const BAND: usize = 256;

/// The sums of all shares.
pub(crate) fn weight_gradient(
    (isa, precision): (Isa, Precision),
    gradient: &WeightGradient<'_>,
    blocks: &[Block],
) -> Shares {
    let WeightGradient { axes, batch, .. } = *gradient;
    let groups = blocks.len().div_ceil(GROUP);
    let pixels = batch * axes[0].output * axes[1].output;
    let shares = TASKS.div_ceil(groups).min(batch).min(pixels / SHARE).max(1);
    let inputs = gradient.source.inputs();
    let mut partial = Shares::new(axes, inputs, lanes(isa), blocks.len(), shares);
    let size = partial.size;
    let mut rest = &mut partial.sums[..];
    let mut tasks = Vec::with_capacity(shares * groups);
    for share in 0..shares {
        for blocks in blocks.chunks(GROUP) {
            let (sums, others) = rest.split_at_mut(blocks.len() * size);
            rest = others;
            let images = batch * share / shares..batch * (share + 1) / shares;
            tasks.push(Task {
                gradient,
                blocks,
                images,
                sums,
            });
        }
    }
    (tasks.into_par_iter()).for_each(|task| dispatch(precision, isa, task));
    partial
}

/// Some blocks of output channels and some images.
struct Task<'a> {
    gradient: &'a WeightGradient<'a>,
    blocks: &'a [Block],
    images: Range<usize>,
    /// `[block][phase and tap][input channel][lane]`
    sums: &'a mut [f32],
}

impl WithWords for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        let WeightGradient {
            axes,
            source,
            channels,
            ..
        } = *self.gradient;
        let [reads, writes] = [
            axes[0].source * axes[1].source,
            axes[0].output * axes[1].output,
        ];
        let strips = strips::<S>(source.channels);
        let columns: usize = strips.iter().map(Strip::columns).sum();
        let mut x = Scratch::take(reads * columns + S::F32_LANES);
        let mut dy = Scratch::take(writes * 2 * S::F32_LANES + S::F32_LANES);
        let size = self.sums.len() / self.blocks.len();
        self.sums.fill(0.0);
        for image in self.images.clone().step_by(W::NUMBERS) {
            // A word holds the same number of two images, so all taps find what they multiply.
            let pair = Pair(image, (image + 1 < self.images.end).then_some(image + 1));
            let mut to = &mut x[..];
            for strip in &strips {
                let channels = source.channels[strip.input];
                let images = pair.of(source.images[strip.input], reads * channels);
                let columns = strip.first..strip.first + strip.columns();
                copy_columns(simd, words, images, channels, columns, to);
                to = &mut to[reads * strip.columns()..];
            }
            let dys = pair.of(self.gradient.dy, writes * channels);
            for (block, sums) in self.blocks.iter().zip(self.sums.chunks_exact_mut(size)) {
                let columns = block.first..block.first + block.vectors * S::F32_LANES;
                copy_columns(simd, words, dys, channels, columns, &mut dy);
                let image = ImagePair {
                    gradient: self.gradient,
                    strips: &strips,
                    vectors: block.vectors,
                    x: &x,
                    dy: &dy,
                };
                image.add(simd, words, sums);
            }
        }
    }
}

/// The numbers of an image and of the one that shares its words, if there is one.
struct Pair(usize, Option<usize>);

impl Pair {
    fn of<'a>(&self, images: &'a [f32], size: usize) -> (&'a [f32], Option<&'a [f32]>) {
        let image = |number: usize| &images[number * size..][..size];
        (image(self.0), self.1.map(image))
    }
}

/// Some channels of one of the inputs: the rows of a register tile.
struct Strip {
    input: usize,
    /// The first channel within its input.
    first: usize,
    /// The first channel counted through both inputs.
    at: usize,
    /// The number of channels.
    height: usize,
}

impl Strip {
    /// The words copied of each pixel: those that a register tile computes with.
    fn columns(&self) -> usize {
        computed_rows(self.height)
    }
}

/// Divides the channels into strips of nearly equal height: a low register tile waits for its own
/// sums. All heights but the last of an input are even, as those of register tiles are.
fn strips<S: Simd>(channels: [usize; 2]) -> Vec<Strip> {
    let mut strips = Vec::new();
    let mut at = 0;
    for (input, channels) in channels.into_iter().enumerate() {
        let pairs = channels.div_ceil(2);
        let count = channels.div_ceil(max_rows::<S>());
        for strip in 0..count {
            let first = 2 * (pairs * strip / count);
            let end = channels.min(2 * (pairs * (strip + 1) / count));
            strips.push(Strip {
                input,
                first,
                at: at + first,
                height: end - first,
            });
        }
        at += channels;
    }
    strips
}

/// Copies the channels `columns` of every pixel, as words of both images. In a register tile's order
/// they are one stream; strided, they would share a few sets of the cache.
///
/// `to` must extend a vector beyond the last of them, which is overwritten. Columns beyond the
/// pixel's channels get any value.
#[inline(always)]
fn copy_columns<S: Simd, W: Words<S>>(
    simd: S,
    words: W,
    (image, other): (&[f32], Option<&[f32]>),
    channels: usize,
    columns: Range<usize>,
    to: &mut [f32],
) {
    // A whole vector if there is one; the next copy overwrites the surplus.
    let vector = |image: &[f32]| match S::as_simd_f32s(image) {
        ([v, ..], _) => *v,
        ([], few) => load(simd, few),
    };
    let width = columns.len();
    for pixel in 0..image.len() / channels {
        for at in (0..width).step_by(S::F32_LANES) {
            let from = (pixel * channels + columns.start + at).min(image.len());
            let v = vector(&image[from..]);
            let zeros = simd.splat_f32s(0.0);
            let other = other.map_or(zeros, |other| vector(&other[from..]));
            let to = &mut to[pixel * width + at..][..S::F32_LANES];
            store(simd, to, words.of(simd, [v, other]));
        }
    }
}

/// The outer products of an image, or of two that share words.
struct ImagePair<'a> {
    gradient: &'a WeightGradient<'a>,
    strips: &'a [Strip],
    /// Vectors of the block of output channels.
    vectors: usize,
    /// `[strip][pixel][column]`
    x: &'a [f32],
    /// `[pixel][lane]`
    dy: &'a [f32],
}

impl ImagePair<'_> {
    /// Adds the outer products to the block's sums.
    #[inline(always)]
    fn add<S: Simd, W: Words<S>>(&self, simd: S, words: W, sums: &mut [f32]) {
        let axes = self.gradient.axes;
        let width = self.vectors * S::F32_LANES;
        let inputs = self.gradient.source.inputs();
        let mut sums = sums;
        for (phase, taps) in phases(axes) {
            let count = [axes[0].count(phase[0]), axes[1].count(phase[1])];
            let taps_of_phase = taps[0].len() * taps[1].len();
            let (these, others) = sums.split_at_mut(taps_of_phase * inputs * width);
            sums = others;
            let band = (BAND / count[1].max(1)).max(1);
            for start in (0..count[0]).step_by(band) {
                let band = start..(start + band).min(count[0]);
                self.add_band(simd, words, phase, band, these);
            }
        }
    }

    /// Adds the products of a band of output rows of one phase.
    #[inline(always)]
    fn add_band<S: Simd, W: Words<S>>(
        &self,
        simd: S,
        words: W,
        phase: [usize; 2],
        band: Range<usize>,
        sums: &mut [f32],
    ) {
        let WeightGradient { axes, source, .. } = *self.gradient;
        let width = self.vectors * S::F32_LANES;
        let count = [axes[0].count(phase[0]), axes[1].count(phase[1])];
        let phases = [axes[0].phases.len(), axes[1].phases.len()];
        let [rows, cols] = [0, 1].map(|k| &axes[k].phases[phase[k]]);
        let mut rest = self.x;
        for strip in self.strips {
            let columns = strip.columns();
            let (x, others) = rest.split_at(axes[0].source * axes[1].source * columns);
            rest = others;
            for (k, tap) in taps(rows, cols).enumerate() {
                let rows = axes[0].inside(tap[0].offset, count[0]);
                let rows = rows.start.max(band.start)..rows.end.min(band.end);
                let cols = axes[1].inside(tap[1].offset, count[1]);
                if rows.is_empty() || cols.is_empty() {
                    continue;
                }
                let first = [rows.start, cols.start];
                let grid = [rows.len(), cols.len()];
                let read =
                    [0, 1].map(|k| (axes[k].step * first[k]).wrapping_add_signed(tap[k].offset));
                let step = [axes[0].step, axes[1].step];
                let written = [0, 1].map(|k| phases[k] * first[k] + phase[k]);
                let first = (k * source.inputs() + strip.at) * width;
                let products = OuterProducts {
                    left: lattice(x, axes[1].source, columns, read, step, grid),
                    right: lattice(self.dy, axes[1].output, width, written, phases, grid),
                    height: strip.height,
                    vectors: self.vectors,
                    sums: &mut sums[first..][..strip.height * width],
                };
                products.add(simd, words);
            }
        }
    }
}

/// A grid of an image's pixels: every `step`-th from `first` on.
#[inline(always)]
fn lattice(
    image: &[f32],
    width: usize,
    channels: usize,
    first: [usize; 2],
    step: [usize; 2],
    grid: [usize; 2],
) -> Lattice<'_> {
    let start = (first[0] * width + first[1]) * channels;
    let strides = [step[0] * width * channels, step[1] * channels];
    Lattice::new(image, start, strides, grid, channels)
}
