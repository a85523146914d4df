//! Weights in the order in which the direct algorithm reads them.

use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::conv::axis::{Axis, elements, phases, taps};
use crate::cpu::conv::blocks::{Block, blocks};
use crate::cpu::conv::map::Strides;
use crate::cpu::conv::to_words::of_matrices;
use crate::cpu::isa::Isa;
use crate::cpu::precision::Precision;
use crate::cpu::simd::lanes;

/// The packed weights of one map: for every block and phase, `[tap][word of summed channels][lane]`.
#[derive(Debug)]
pub(crate) struct DirectWeights {
    pub(super) isa: Isa,
    pub(super) precision: Precision,
    pub(super) blocks: Vec<Block>,
    /// One per block, phases of rows and columns one after the other.
    data: Vec<Vec<f32>>,
    /// Where each phase starts, in taps.
    starts: Vec<usize>,
    /// Phases of the columns.
    cols: usize,
}

impl DirectWeights {
    /// Packs the channels `kept` of `weights` for the map `axes`, which sums over `summed` channels
    /// of two inputs.
    pub(crate) fn new(
        (isa, precision): (Isa, Precision),
        axes: &[Axis; 2],
        weights: &[f32],
        strides: Strides,
        summed: [usize; 2],
        kept: Range<usize>,
    ) -> Self {
        let mut starts = vec![0];
        for (_, [rows, cols]) in phases(axes) {
            starts.push(starts[starts.len() - 1] + rows.len() * cols.len());
        }
        let blocks = blocks(isa, kept.len());
        let lanes = lanes(isa);
        let data = blocks
            .par_iter()
            .map(|block| {
                let width = block.vectors * lanes;
                let matrix = (summed[0] + summed[1]) * width;
                let mut data = vec![0.0; starts[starts.len() - 1] * matrix];
                let all = phases(axes).flat_map(|(_, [rows, cols])| taps(rows, cols));
                for (tap, to) in all.zip(data.chunks_exact_mut(matrix.max(1))) {
                    for (row, col) in elements(tap) {
                        let start = kept.start + block.first;
                        let from = &weights[start * strides.kept + row * strides.row + col..];
                        add_matrix(from, strides, block.width, to, width);
                    }
                }
                of_matrices(precision, isa, data, summed, width)
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
    pub(super) fn of(&self, block: usize, phase: [usize; 2]) -> &[f32] {
        let phase = phase[0] * self.cols + phase[1];
        let data = &self.data[block];
        let tap = data.len() / self.starts[self.starts.len() - 1].max(1);
        &data[self.starts[phase] * tap..self.starts[phase + 1] * tap]
    }
}

/// Adds one kernel element's weights, `count` per summed channel, to rows of `width` floats.
fn add_matrix(weights: &[f32], strides: Strides, count: usize, to: &mut [f32], width: usize) {
    for (i, to) in to.chunks_exact_mut(width).enumerate() {
        let from = weights[i * strides.summed..].iter().step_by(strides.kept);
        for (to, w) in to[..count].iter_mut().zip(from) {
            *to += w;
        }
    }
}
