//! The weight gradient's partial sums, added up.
//!
//! Tasks own a share of the pixels, and the division into shares depends on the shape alone. The sums
//! of the shares are added in order, so that the number of threads does not change the result.

use rayon::prelude::*;

use super::axis::{Axis, elements, phases, taps};
use super::blocks::Block;
use crate::cpu::scratch::Scratch;

/// The least number of tasks, if there are enough images.
pub(crate) const TASKS: usize = 16;

/// Input channels at a time: their floats of all filters stay in the first-level cache.
const CHANNELS: usize = 16;

/// Sums of all shares, `[share][block][phase and tap][input channel][lane]`.
pub(crate) struct Shares {
    /// The sums.
    pub(crate) sums: Scratch,
    /// Floats of a block's sums, which have the width of the widest block.
    pub(crate) size: usize,
}

impl Shares {
    /// Sums of any value, for `shares` shares of `blocks` blocks, each with two vectors of `lanes`
    /// floats for every tap and input channel.
    pub(crate) fn new(
        axes: &[Axis; 2],
        inputs: usize,
        lanes: usize,
        blocks: usize,
        shares: usize,
    ) -> Self {
        let taps: usize = phases(axes)
            .map(|(_, [rows, cols])| rows.len() * cols.len())
            .sum();
        let size = taps * inputs * 2 * lanes;
        Self {
            sums: Scratch::take(shares * blocks * size),
            size,
        }
    }

    /// Writes the gradient `dw`, whose floats lie `strides` (kernel row, input channel, output
    /// channel) apart.
    pub(crate) fn write(
        &self,
        axes: &[Axis; 2],
        blocks: &[Block],
        lanes: usize,
        dw: &mut [f32],
        strides: [usize; 3],
    ) {
        let mut rest = dw;
        let mut filters = Vec::with_capacity(blocks.len());
        for block in blocks {
            let (these, others) = rest.split_at_mut(block.width * strides[2]);
            filters.push((block, these));
            rest = others;
        }
        filters
            .into_par_iter()
            .enumerate()
            .for_each(|(k, (block, dw))| {
                let shares = self.sums.chunks_exact(self.size);
                let shares = shares.skip(k).step_by(blocks.len());
                add(axes, block.vectors * lanes, &shares, dw, strides);
            });
    }
}

/// Adds the shares of a block, in order, into its filters of the gradient.
fn add<'a>(
    axes: &[Axis; 2],
    width: usize,
    shares: &(impl Iterator<Item = &'a [f32]> + Clone),
    dw: &mut [f32],
    [row, channel, filter]: [usize; 3],
) {
    let inputs = filter / channel;
    let mut sum = vec![0.0; CHANNELS * width];
    dw.fill(0.0);
    for start in (0..inputs).step_by(CHANNELS) {
        let count = CHANNELS.min(inputs - start);
        let sum = &mut sum[..count * width];
        for (k, tap) in phases(axes)
            .flat_map(|(_, [rows, cols])| taps(rows, cols))
            .enumerate()
        {
            sum.fill(0.0);
            for share in shares.clone() {
                let share = &share[(k * inputs + start) * width..];
                for (sum, term) in sum.iter_mut().zip(share) {
                    *sum += term;
                }
            }
            for (r, c) in elements(tap) {
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
