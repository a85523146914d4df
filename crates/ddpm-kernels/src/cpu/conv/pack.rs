//! Weights in the order in which the tiles read them.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::axis::{Axis, Tap};
use crate::cpu::{Isa, Precision, words};

/// Some lanes' worth of output channels, at most two vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// The first output channel.
    pub(crate) first: usize,
    /// How many output channels.
    pub(crate) width: usize,
    /// Vectors, 1 or 2; `width` fills two of them, but perhaps not one.
    pub(crate) vectors: usize,
}

/// Covers `channels` with blocks: as many of two vectors as fit, then of one.
pub(crate) fn blocks(isa: Isa, channels: usize) -> Vec<Block> {
    let lanes = lanes(isa);
    let mut blocks = Vec::new();
    let mut first = 0;
    while first < channels {
        let left = channels - first;
        let vectors = if left >= 2 * lanes { 2 } else { 1 };
        let width = left.min(vectors * lanes);
        blocks.push(Block {
            first,
            width,
            vectors,
        });
        first += width;
    }
    blocks
}

/// Whether the blocks hold each of so many channels once.
pub(crate) fn cover(blocks: &[Block], channels: usize) -> bool {
    let end = blocks.iter().try_fold(0, |end, block| {
        (block.first == end).then_some(end + block.width)
    });
    end == Some(channels)
}

/// How many floats a vector of `isa` holds.
pub(crate) fn lanes(isa: Isa) -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    isa.dispatch(Lanes)
}

/// The taps of a phase of both axes, row by row.
pub(crate) fn taps<'a>(rows: &'a [Tap], cols: &'a [Tap]) -> impl Iterator<Item = [&'a Tap; 2]> {
    rows.iter()
        .flat_map(|row| cols.iter().map(move |col| [row, col]))
}

/// Where weight `[o, i, t]` lies, for whichever of `o` and `i` is summed over and whichever is
/// kept by the map at hand.
#[derive(Clone, Copy)]
pub(crate) struct Strides {
    /// Between channels that are summed over.
    pub(crate) summed: usize,
    /// Between channels that are kept.
    pub(crate) kept: usize,
    /// Between rows of the kernel.
    pub(crate) row: usize,
}

/// Packed weights of one map: for every block and phase, `[tap][word of summed channels][lane]`.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
    pub(crate) blocks: Vec<Block>,
    /// One per block, phases of rows and cols one after the other.
    data: Vec<Vec<f32>>,
    /// Where each phase starts, in taps.
    starts: Vec<usize>,
    cols: usize,
}

impl Matrix {
    /// Packs the channels `kept` of `weights` for the map `axes`.
    pub(crate) fn new(
        isa: Isa,
        precision: Precision,
        axes: &[Axis; 2],
        weights: &[f32],
        strides: Strides,
        channels: [usize; 2],
        kept: Range<usize>,
    ) -> Self {
        let summed = channels[0] + channels[1];
        let phases = || {
            axes[0]
                .phases
                .iter()
                .flat_map(|row| axes[1].phases.iter().map(move |col| (row, col)))
        };
        let mut starts = vec![0];
        for (row, col) in phases() {
            starts.push(starts[starts.len() - 1] + row.len() * col.len());
        }
        let blocks = blocks(isa, kept.len());
        let lanes = lanes(isa);
        let data = blocks
            .par_iter()
            .map(|block| {
                let width = block.vectors * lanes;
                let mut data = vec![0.0; starts[starts.len() - 1] * summed * width];
                let mut tap_start = 0;
                for (row, col) in phases() {
                    for [row, col] in taps(row, col) {
                        let to = &mut data[tap_start..][..summed * width];
                        for (row, col) in pairs(&row.kernel, &col.kernel) {
                            let from =
                                (kept.start + block.first) * strides.kept + row * strides.row + col;
                            for (i, to) in to.chunks_exact_mut(width).enumerate() {
                                let from = weights[from + i * strides.summed..]
                                    .iter()
                                    .step_by(strides.kept);
                                for (to, w) in to[..block.width].iter_mut().zip(from) {
                                    *to += w;
                                }
                            }
                        }
                        tap_start += summed * width;
                    }
                }
                words::of_matrices(precision, isa, data, channels, width)
            })
            .collect();
        Self {
            isa,
            precision,
            blocks,
            data,
            starts,
            cols: axes[1].phases.len(),
        }
    }

    /// The weights of one block and phase.
    pub(crate) fn of(&self, block: usize, phase: [usize; 2]) -> &[f32] {
        let phase = phase[0] * self.cols + phase[1];
        let data = &self.data[block];
        let tap = data.len() / self.starts[self.starts.len() - 1].max(1);
        &data[self.starts[phase] * tap..self.starts[phase + 1] * tap]
    }
}

/// All pairs of `a` and `b`.
pub(crate) fn pairs<'a>(
    a: &'a [usize],
    b: &'a [usize],
) -> impl Iterator<Item = (usize, usize)> + 'a {
    a.iter().flat_map(move |&a| b.iter().map(move |&b| (a, b)))
}
