//! The weight gradient: for every tap, the outer products of input and output gradient, summed
//! over pixels.
//!
//! Tasks own a block of output channels and a share of the pixels, whose partition depends on the
//! shape alone; the shares' sums are added in order.

use std::ops::Range;

use pulp::{MemMask, Simd, WithSimd};
use rayon::prelude::*;

use super::axis::{Axis, Tap};
use super::gather::Source;
use super::pack::{Block, blocks, lanes, pairs, taps};
use super::tile::{Lattice, max_rows, outer_products, with_rows};
use crate::cpu::Isa;
use crate::cpu::scratch::Scratch;

/// At least so many tasks, if there are so many images.
const TASKS: usize = 16;
/// At most so many pixels between two visits to the same sums.
const BAND: usize = 256;

/// Writes `dw`, whose floats lie `strides` (kernel row, input channel, output channel) apart.
#[expect(clippy::too_many_arguments, reason = "a convolution has as many parts")]
pub(crate) fn gradient(
    isa: Isa,
    axes: &[Axis; 2],
    batch: usize,
    source: Source,
    dy: &[f32],
    channels: usize,
    dw: &mut [f32],
    strides: [usize; 3],
) {
    let blocks = blocks(isa, channels);
    let shares = TASKS.div_ceil(blocks.len()).min(batch).max(1);
    let inputs = source.channels[0] + source.channels[1];
    let [rows, cols] = axes
        .each_ref()
        .map(|axis| axis.phases.iter().map(Vec::len).sum::<usize>());
    let width = 2 * lanes(isa);
    let size = rows * cols * inputs * width;
    let mut partial = Scratch::take(blocks.len() * shares * size);
    partial
        .par_chunks_mut(size)
        .enumerate()
        .for_each(|(task, sums)| {
            let (block, share) = (blocks[task / shares], task % shares);
            sums.fill(0.0);
            isa.dispatch(Task {
                axes,
                source,
                dy,
                channels,
                block,
                images: batch * share / shares..batch * (share + 1) / shares,
                sums,
            });
        });
    let mut rest = dw;
    let mut parts = Vec::with_capacity(blocks.len());
    for block in &blocks {
        let (part, others) = rest.split_at_mut(block.width * strides[2]);
        parts.push((block, part));
        rest = others;
    }
    parts
        .into_par_iter()
        .zip(partial.par_chunks(shares * size))
        .for_each(|((block, dw), partial)| {
            add_shares(
                axes,
                block,
                block.vectors * lanes(isa),
                partial,
                size,
                dw,
                strides,
            );
        });
}

/// Adds the shares of a block, in order, into its filters of the gradient.
fn add_shares(
    axes: &[Axis; 2],
    block: &Block,
    width: usize,
    shares: &[f32],
    size: usize,
    dw: &mut [f32],
    [row, channel, filter]: [usize; 3],
) {
    let tap = filter / channel * width;
    let mut sum = vec![0.0; width];
    dw.fill(0.0);
    for i in 0..filter / channel {
        for (k, [rows, cols]) in phases(axes)
            .flat_map(|(_, rows, cols)| taps(rows, cols))
            .enumerate()
        {
            let at = k * tap + i * width;
            sum.copy_from_slice(&shares[at..][..width]);
            for share in shares.chunks_exact(size).skip(1) {
                for (sum, term) in sum.iter_mut().zip(&share[at..][..width]) {
                    *sum += term;
                }
            }
            for (r, c) in pairs(&rows.kernel, &cols.kernel) {
                let filters = dw[i * channel + r * row + c..].iter_mut().step_by(filter);
                for (dw, sum) in filters.zip(&sum[..block.width]) {
                    *dw += sum;
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

struct Task<'a> {
    axes: &'a [Axis; 2],
    source: Source<'a>,
    dy: &'a [f32],
    channels: usize,
    block: Block,
    images: Range<usize>,
    /// `[phase and tap][input channel][lane]`
    sums: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match self.block.vectors {
            2 => self.images::<S, 2>(simd, None),
            _ => {
                let width = u32::try_from(self.block.width).expect("at most one vector");
                // The mask alone: what pulp keeps beside it is for masks it knows in advance.
                let mask = simd.mask_between_m32s(0, width).mask().into();
                self.images::<S, 1>(simd, Some(mask));
            }
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn images<S: Simd, const N: usize>(&mut self, simd: S, mask: Option<MemMask<S::m32s>>) {
        let axes = self.axes;
        let inputs = self.source.channels[0] + self.source.channels[1];
        for image in self.images.clone() {
            let mut sums = 0;
            for (phase, rows, cols) in phases(axes) {
                let count = [0, 1].map(|k| axes[k].count(phase[k]));
                let band = (BAND / count[1].max(1)).max(1);
                for start in (0..count[0]).step_by(band) {
                    let end = (start + band).min(count[0]);
                    for (k, [row, col]) in taps(rows, cols).enumerate() {
                        let inside = axes[0].inside(row.offset, count[0]);
                        let grid = [
                            inside.start.max(start)..inside.end.min(end),
                            axes[1].inside(col.offset, count[1]),
                        ];
                        if grid.iter().any(Range::is_empty) {
                            continue;
                        }
                        let first = [grid[0].start, grid[1].start];
                        let at = Place {
                            image,
                            source: [
                                (axes[0].step * first[0]).wrapping_add_signed(row.offset),
                                (axes[1].step * first[1]).wrapping_add_signed(col.offset),
                            ],
                            output: [0, 1].map(|k| axes[k].phases.len() * first[k] + phase[k]),
                            grid: grid.map(|range| range.len()),
                        };
                        let sums = sums + k * inputs * N * S::F32_LANES;
                        self.tap::<S, N>(simd, &at, sums, mask);
                    }
                }
                sums += rows.len() * cols.len() * inputs * N * S::F32_LANES;
            }
        }
    }

    /// Adds the outer products of one tap over one grid of pixels.
    #[inline(always)]
    fn tap<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        at: &Place,
        sums: usize,
        mask: Option<MemMask<S::m32s>>,
    ) {
        let axes = self.axes;
        let dy = lattice(
            self.dy,
            [axes[0].output, axes[1].output],
            [axes[0].phases.len(), axes[1].phases.len()],
            self.channels,
            at.image,
            at.output,
            at.grid,
        );
        let dy = dy.plus(self.block.first);
        let mut sums = &mut self.sums[sums..];
        for (images, channels) in std::iter::zip(self.source.images, self.source.channels) {
            if channels == 0 {
                continue;
            }
            let x = lattice(
                images,
                [axes[0].source, axes[1].source],
                [axes[0].step, axes[1].step],
                channels,
                at.image,
                at.source,
                at.grid,
            );
            // Tiles as equal as can be: a low one would wait for its own sums.
            let tiles = channels.div_ceil(max_rows::<S>());
            for tile in 0..tiles {
                let first = channels * tile / tiles;
                let height = channels * (tile + 1) / tiles - first;
                let (these, rest) =
                    std::mem::take(&mut sums).split_at_mut(height * N * S::F32_LANES);
                sums = rest;
                with_rows!(S, height, P => {
                    #[allow(unsafe_code, reason = "the innermost loop has no room for bounds checks")]
                    // SAFETY: `lattice` has checked that all channels of every point lie inside
                    // the images; the tile and the block are some of these channels; `these`
                    // holds a block for every channel of the tile.
                    unsafe {
                        outer_products::<S, P, N>(
                            simd, these.as_mut_ptr(), x.plus(first), dy, at.grid, mask,
                        );
                    }
                });
            }
        }
    }
}

/// A grid of outputs and the source pixels they read under one tap.
struct Place {
    image: usize,
    /// The first source pixel.
    source: [usize; 2],
    /// The first output pixel.
    output: [usize; 2],
    /// How many rows and columns.
    grid: [usize; 2],
}

/// Every `step`-th pixel from `first` on, checked to lie inside.
#[inline(always)]
fn lattice(
    images: &[f32],
    size: [usize; 2],
    step: [usize; 2],
    channels: usize,
    image: usize,
    first: [usize; 2],
    grid: [usize; 2],
) -> Lattice {
    for k in 0..2 {
        assert!(first[k] + (grid[k] - 1) * step[k] < size[k]);
    }
    let image = &images[image * size[0] * size[1] * channels..][..size[0] * size[1] * channels];
    Lattice {
        start: image[(first[0] * size[1] + first[1]) * channels..].as_ptr(),
        row: step[0] * size[1] * channels,
        col: step[1] * channels,
    }
}
