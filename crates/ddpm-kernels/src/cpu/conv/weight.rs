//! The weight gradient: for every tap, the outer products of input and output gradient, summed
//! over pixels.
//!
//! Tasks own a block of output channels and a share of the pixels, whose partition depends on the
//! shape alone; the shares' sums are added in order.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use super::axis::{Axis, Tap};
use super::gather::{Source, load, store};
use super::pack::{Block, blocks, lanes, pairs, taps};
use super::tile::{Lattice, max_rows, outer_products, with_rows};
use super::winograd;
use crate::cpu::scratch::Scratch;
use crate::cpu::words::{WithWords, Words};
use crate::cpu::{Isa, Precision};

/// At least so many tasks, if there are enough images.
const TASKS: usize = 16;
/// At least so many pixels to a share: every share has sums of its own to clear and to add.
const SHARE: usize = 512;
/// At most so many blocks of output channels to a task, which copies its input once.
const GROUP: usize = 4;
/// At least so many of Winograd's tiles to a share, likewise.
const TILES: usize = 96;
/// About so many pixels between two visits to the same sums.
const BAND: usize = 256;

/// Writes `dw`, whose floats lie `strides` (kernel row, input channel, output channel) apart;
/// with a `tile`, by Winograd's transforms.
#[expect(clippy::too_many_arguments, reason = "a convolution has as many parts")]
pub(crate) fn gradient(
    isa: Isa,
    precision: Precision,
    tile: Option<winograd::Tile>,
    axes: &[Axis; 2],
    batch: usize,
    source: Source,
    dy: &[f32],
    channels: usize,
    dw: &mut [f32],
    strides: [usize; 3],
) {
    let blocks = blocks(isa, channels);
    let inputs = source.channels[0] + source.channels[1];
    let width = 2 * lanes(isa);
    let size = phases(axes)
        .map(|(_, rows, cols)| rows.len() * cols.len())
        .sum::<usize>()
        * inputs
        * width;
    let partial = if let Some(tile) = tile {
        let grid = [0, 1].map(|k| axes[k].output.div_ceil(tile.outputs()));
        let tiles = batch * grid[0] * grid[1];
        // Even, for an even load of two, four, … cores.
        let shares = (tiles / TILES).clamp(1, TASKS);
        let shares = (shares - shares % 2).max(1);
        let mut partial = Scratch::take(shares * blocks.len() * size);
        let tasks: Vec<_> = (partial.chunks_exact_mut(blocks.len() * size).enumerate())
            .map(|(share, sums)| winograd::Share {
                tile,
                axes,
                source,
                dy,
                channels,
                blocks: &blocks,
                tiles: tiles * share / shares..tiles * (share + 1) / shares,
                sums,
            })
            .collect();
        tasks
            .into_par_iter()
            .for_each(|task| precision.dispatch(isa, task));
        partial
    } else {
        let groups = blocks.len().div_ceil(GROUP);
        let pixels = batch * axes[0].output * axes[1].output;
        let shares = TASKS.div_ceil(groups).min(batch).min(pixels / SHARE).max(1);
        let mut partial = Scratch::take(shares * blocks.len() * size);
        let mut rest = &mut partial[..];
        let mut tasks = Vec::with_capacity(shares * groups);
        for share in 0..shares {
            for blocks in blocks.chunks(GROUP) {
                let (sums, others) = rest.split_at_mut(blocks.len() * size);
                rest = others;
                let images = batch * share / shares..batch * (share + 1) / shares;
                tasks.push(Task {
                    axes,
                    source,
                    dy,
                    channels,
                    blocks,
                    images,
                    sums,
                });
            }
        }
        tasks
            .into_par_iter()
            .for_each(|task| precision.dispatch(isa, task));
        partial
    };
    let mut rest = dw;
    let mut filters = Vec::with_capacity(blocks.len());
    for block in &blocks {
        let (these, others) = rest.split_at_mut(block.width * strides[2]);
        filters.push((block, these));
        rest = others;
    }
    filters
        .into_par_iter()
        .enumerate()
        .for_each(|(k, (block, dw))| {
            let shares = partial.chunks_exact(size).skip(k).step_by(blocks.len());
            add_shares(axes, block.vectors * lanes(isa), &shares, dw, strides);
        });
}

/// Adds the shares of a block, in order, into its filters of the gradient.
fn add_shares<'a>(
    axes: &[Axis; 2],
    width: usize,
    shares: &(impl Iterator<Item = &'a [f32]> + Clone),
    dw: &mut [f32],
    [row, channel, filter]: [usize; 3],
) {
    /// Input channels at a time: their floats of all filters stay in the first-level cache.
    const SOME: usize = 16;
    let inputs = filter / channel;
    let mut sum = vec![0.0; SOME * width];
    dw.fill(0.0);
    for start in (0..inputs).step_by(SOME) {
        let count = SOME.min(inputs - start);
        let sum = &mut sum[..count * width];
        for (k, [rows, cols]) in phases(axes)
            .flat_map(|(_, rows, cols)| taps(rows, cols))
            .enumerate()
        {
            sum.fill(0.0);
            for share in shares.clone() {
                let share = &share[(k * inputs + start) * width..];
                for (sum, term) in sum.iter_mut().zip(share) {
                    *sum += term;
                }
            }
            for (r, c) in pairs(&rows.kernel, &cols.kernel) {
                for (lane, dw) in dw.chunks_exact_mut(filter).enumerate() {
                    let dw = dw[start * channel + r * row + c..].iter_mut();
                    let terms = sum[lane..].iter().step_by(width);
                    for (dw, term) in dw.step_by(channel).zip(terms) {
                        *dw += term;
                    }
                }
            }
        }
    }
}

/// All phases of both axes with their taps.
fn phases(axes: &[Axis; 2]) -> impl Iterator<Item = ([usize; 2], &[Tap], &[Tap])> {
    axes[0].phases.iter().enumerate().flat_map(|(a, rows)| {
        let cols = axes[1].phases.iter().enumerate();
        cols.map(move |(b, cols)| ([a, b], &rows[..], &cols[..]))
    })
}

/// Some blocks of output channels and some images.
struct Task<'a> {
    axes: &'a [Axis; 2],
    source: Source<'a>,
    dy: &'a [f32],
    channels: usize,
    blocks: &'a [Block],
    images: Range<usize>,
    /// `[block][phase and tap][input channel][lane]`
    sums: &'a mut [f32],
}

impl WithWords for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        let axes = self.axes;
        let inputs = self.source.channels[0] + self.source.channels[1];
        let [reads, writes] = [
            axes[0].source * axes[1].source,
            axes[0].output * axes[1].output,
        ];
        let mut x = Scratch::take(reads * inputs + S::F32_LANES);
        let mut dy = Scratch::take(writes * 2 * S::F32_LANES + S::F32_LANES);
        let tiles = tiles::<S>(self.source.channels);
        let size = self.sums.len() / self.blocks.len();
        self.sums.fill(0.0);
        for image in self.images.clone().step_by(W::NUMBERS) {
            // A word holds the same number of two images: all taps find what they multiply.
            let pair = Pair(image, (image + 1 < self.images.end).then_some(image + 1));
            for tile in &tiles {
                let channels = self.source.channels[tile.input];
                let images = pair.of(self.source.images[tile.input], reads * channels);
                let to = &mut x[reads * tile.at..];
                copy_columns(simd, words, images, channels, tile.first, tile.height, to);
            }
            let slopes = pair.of(self.dy, writes * self.channels);
            for (block, sums) in self.blocks.iter().zip(self.sums.chunks_exact_mut(size)) {
                let width = block.vectors * S::F32_LANES;
                copy_columns(
                    simd,
                    words,
                    slopes,
                    self.channels,
                    block.first,
                    width,
                    &mut dy,
                );
                if block.vectors == 2 {
                    image_sums::<S, W, 2>(simd, words, axes, &tiles, inputs, &x, &dy, sums);
                } else {
                    image_sums::<S, W, 1>(simd, words, axes, &tiles, inputs, &x, &dy, sums);
                }
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
struct Tile {
    input: usize,
    /// The first channel, within its input.
    first: usize,
    /// The first channel, counted through both inputs.
    at: usize,
    height: usize,
}

/// Covers the channels with tiles as equal as can be: a low one would wait for its own sums.
fn tiles<S: Simd>(channels: [usize; 2]) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut at = 0;
    for (input, channels) in channels.into_iter().enumerate() {
        let count = channels.div_ceil(max_rows::<S>());
        for tile in 0..count {
            let first = channels * tile / count;
            let height = channels * (tile + 1) / count - first;
            tiles.push(Tile {
                input,
                first,
                at,
                height,
            });
            at += height;
        }
    }
    tiles
}

/// Copies `width` channels from `first` on of every pixel, as words of both images: in a register
/// tile's order they are one stream, where strided they would share a few sets of the cache.
///
/// `to` ends at least a vector behind the last of them; what lies there is overwritten. Channels
/// beyond the pixel's are anything.
#[inline(always)]
fn copy_columns<S: Simd, W: Words<S>>(
    simd: S,
    words: W,
    (image, other): (&[f32], Option<&[f32]>),
    channels: usize,
    first: usize,
    width: usize,
    to: &mut [f32],
) {
    // A whole vector where there is one; the surplus is overwritten by what comes next.
    let vector = |image: &[f32]| match S::as_simd_f32s(image) {
        ([v, ..], _) => *v,
        ([], few) => load(simd, few),
    };
    for pixel in 0..image.len() / channels {
        for at in (0..width).step_by(S::F32_LANES) {
            let from = (pixel * channels + first + at).min(image.len());
            let v = vector(&image[from..]);
            let zeros = simd.splat_f32s(0.0);
            let other = other.map_or(zeros, |other| vector(&other[from..]));
            let to = &mut to[pixel * width + at..][..S::F32_LANES];
            store(simd, to, words.of(simd, [v, other]));
        }
    }
}

/// Adds the outer products of an image, or of two.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a convolution has as many parts")]
fn image_sums<S: Simd, W: Words<S>, const N: usize>(
    simd: S,
    words: W,
    axes: &[Axis; 2],
    tiles: &[Tile],
    inputs: usize,
    x: &[f32],
    dy: &[f32],
    sums: &mut [f32],
) {
    let width = N * S::F32_LANES;
    let mut sums = sums;
    for (phase, rows, cols) in phases(axes) {
        let (these, others) = sums.split_at_mut(rows.len() * cols.len() * inputs * width);
        sums = others;
        let count = [axes[0].count(phase[0]), axes[1].count(phase[1])];
        let band = (BAND / count[1].max(1)).max(1);
        for start in (0..count[0]).step_by(band) {
            let end = (start + band).min(count[0]);
            for tile in tiles {
                let x = &x[axes[0].source * axes[1].source * tile.at..];
                let x = &x[..axes[0].source * axes[1].source * tile.height];
                for (k, [row, col]) in taps(rows, cols).enumerate() {
                    let rows = axes[0].inside(row.offset, count[0]);
                    let rows = rows.start.max(start)..rows.end.min(end);
                    let cols = axes[1].inside(col.offset, count[1]);
                    if rows.is_empty() || cols.is_empty() {
                        continue;
                    }
                    let grid = [rows.len(), cols.len()];
                    let read = lattice(
                        x,
                        [axes[0].source, axes[1].source],
                        [axes[0].step, axes[1].step],
                        tile.height,
                        [
                            (axes[0].step * rows.start).wrapping_add_signed(row.offset),
                            (axes[1].step * cols.start).wrapping_add_signed(col.offset),
                        ],
                        grid,
                    );
                    let phases = [axes[0].phases.len(), axes[1].phases.len()];
                    let written = lattice(
                        dy,
                        [axes[0].output, axes[1].output],
                        phases,
                        width,
                        [
                            phases[0] * rows.start + phase[0],
                            phases[1] * cols.start + phase[1],
                        ],
                        grid,
                    );
                    let sums = &mut these[(k * inputs + tile.at) * width..][..tile.height * width];
                    with_rows!(S, tile.height, P => {
                        #[allow(unsafe_code, reason = "the innermost loop has no room for bounds checks")]
                        // SAFETY: `lattice` has checked that all points lie inside, each with its
                        // channels: `P` of x, `N` vectors of dy. `sums` is as large as the tile.
                        unsafe {
                            outer_products::<S, W, P, N>(simd, words, sums.as_mut_ptr(), read, written, grid);
                        }
                    });
                }
            }
        }
    }
}

/// Every `step`-th pixel from `first` on of an image, checked to lie inside.
#[inline(always)]
fn lattice(
    image: &[f32],
    size: [usize; 2],
    step: [usize; 2],
    channels: usize,
    first: [usize; 2],
    grid: [usize; 2],
) -> Lattice {
    assert!(first[0] + (grid[0] - 1) * step[0] < size[0]);
    assert!(first[1] + (grid[1] - 1) * step[1] < size[1]);
    assert!(size[0] * size[1] * channels <= image.len());
    Lattice {
        start: image[(first[0] * size[1] + first[1]) * channels..].as_ptr(),
        row: step[0] * size[1] * channels,
        col: step[1] * channels,
    }
}
