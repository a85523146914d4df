//! Transformed filters, in the order in which the matrix products read them.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::variant::Variant;
use crate::cpu::conv::axis::Axis;
use crate::cpu::conv::blocks::{Block, blocks};
use crate::cpu::conv::map::Strides;
use crate::cpu::conv::to_words::of_matrices;
use crate::cpu::isa::Isa;
use crate::cpu::precision::Precision;
use crate::cpu::simd::lanes;

/// Transformed filters: for every block, `[point of the tile][word of summed channels][lane]`.
#[derive(Debug)]
pub(crate) struct Filters {
    pub(super) isa: Isa,
    pub(super) precision: Precision,
    pub(super) variant: Variant,
    pub(super) blocks: Vec<Block>,
    pub(super) data: Vec<Vec<f32>>,
}

/// Whether the transforms apply to a map: it has three neighbouring taps on both axes, its inputs have
/// whole vectors of words, and its output has whole vectors of channels.
pub(crate) fn applies(
    isa: Isa,
    precision: Precision,
    axes: &[Axis; 2],
    [first, second, outputs]: [usize; 3],
) -> bool {
    let words = lanes(isa) * precision.numbers();
    [(first, words), (second, words), (outputs, lanes(isa))]
        .iter()
        .all(|(channels, some)| channels % some == 0)
        && axes.iter().all(|axis| {
            axis.step == 1
                && matches!(&axis.phases[..], [taps] if taps.len() == 3
                    && taps.iter().all(|tap| tap.kernel.len() == 1)
                    && taps.windows(2).all(|pair| pair[0].offset + 1 == pair[1].offset))
        })
}

impl Filters {
    /// Transforms the channels `kept` of `weights` for the map `axes`, which sums over `summed`
    /// channels of two inputs.
    pub(crate) fn new(
        (isa, precision): (Isa, Precision),
        variant: Variant,
        axes: &[Axis; 2],
        weights: &[f32],
        strides: Strides,
        summed: [usize; 2],
        kept: Range<usize>,
    ) -> Self {
        let blocks = blocks(isa, kept.len());
        let kernel = [0, 1].map(|k| [0, 1, 2].map(|t| axes[k].phases[0][t].kernel[0]));
        let data = blocks
            .par_iter()
            .map(|block| {
                let from = &weights[(kept.start + block.first) * strides.kept..];
                let transformed = isa.dispatch(Transformed {
                    variant,
                    weights: from,
                    strides,
                    kernel,
                    summed: summed[0] + summed[1],
                    width: block.width,
                });
                of_matrices(precision, isa, transformed, summed, block.width)
            })
            .collect();
        Self {
            isa,
            precision,
            variant,
            blocks,
            data,
        }
    }
}

/// One block of filters to transform.
struct Transformed<'a> {
    variant: Variant,
    weights: &'a [f32],
    strides: Strides,
    /// The kernel's rows and columns in the order of the taps.
    kernel: [[usize; 3]; 2],
    summed: usize,
    width: usize,
}

impl WithSimd for Transformed<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f32> {
        let (n, width) = (self.variant.inputs(), self.width);
        let transform = self.variant.filter();
        let mut data = vec![0.0; n * n * self.summed * width];
        let mut g = vec![0.0; 9 * width];
        let mut half = vec![0.0; 3 * n * width];
        for i in 0..self.summed {
            for lane in 0..width {
                let from = &self.weights[lane * self.strides.kept + i * self.strides.summed..];
                for y in 0..3 {
                    for x in 0..3 {
                        let at = self.kernel[0][y] * self.strides.row + self.kernel[1][x];
                        g[(y * 3 + x) * width + lane] = from[at];
                    }
                }
            }
            // G g, then (G g) Gᵀ.
            for (half, t) in half.chunks_exact_mut(3 * width).zip(transform) {
                let (above, rest) = g.split_at(3 * width);
                let (middle, below) = rest.split_at(3 * width);
                combine(half, t, above, middle, below);
            }
            for (y, half) in half.chunks_exact(3 * width).enumerate() {
                for (x, t) in transform.iter().enumerate() {
                    let to = &mut data[((y * n + x) * self.summed + i) * width..][..width];
                    let (left, rest) = half.split_at(width);
                    let (middle, right) = rest.split_at(width);
                    combine(to, t, left, middle, right);
                }
            }
        }
        data
    }
}

/// to = t₀·a + t₁·b + t₂·c.
#[inline(always)]
fn combine(to: &mut [f32], t: &[f32; 3], a: &[f32], b: &[f32], c: &[f32]) {
    for (((to, a), b), c) in to.iter_mut().zip(a).zip(b).zip(c) {
        *to = t[0] * a + t[1] * b + t[2] * c;
    }
}
