//! The forward pass of attention.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::sizes::{Attention, STRIP};
use crate::cpu::gemm::{MatrixView, Output, left_len, multiply, pack_left, pack_right, right_len};
use crate::cpu::isa::Isa;
use crate::cpu::scratch::Scratch;
use crate::cpu::vector::{self, rounded};

/// Computes out = softmax(q·kᵀ/√d)·v for each head, and the rows' log-sum-exp
/// `[batch, tokens, heads]`.
///
/// # Panics
///
/// If a size is 0 or a length does not match.
pub fn forward(
    isa: Isa,
    attention: &Attention,
    qkv: [&[f32]; 3],
    out: &mut [f32],
    lse: &mut [f32],
) {
    let Attention {
        tokens, heads, dim, ..
    } = *attention;
    let lengths = [qkv[0].len(), qkv[1].len(), qkv[2].len(), out.len()];
    attention.check(&lengths, lse.len());
    let packed_keys = right_len(dim, tokens);
    let rows = attention.strip();
    (out.par_chunks_mut(attention.size()))
        .zip(lse.par_chunks_mut(tokens * heads))
        .enumerate()
        .for_each(|(b, (out, lse))| {
            let [q, k, v] = attention.sequence(qkv, b);
            let mut packed = Scratch::take(heads * (packed_keys + right_len(tokens, dim)));
            let each = packed.len() / heads;
            (packed.par_chunks_mut(each).enumerate()).for_each(|(h, packed)| {
                let (keys, values) = packed.split_at_mut(packed_keys);
                isa.dispatch(Pack {
                    keys: (attention.head(k, 0, h).transposed(), keys),
                    values: (attention.head(v, 0, h), values),
                    tokens,
                    dim,
                });
            });
            (out.par_chunks_mut(rows * attention.width()))
                .zip(lse.par_chunks_mut(rows * heads))
                .enumerate()
                .for_each(|(i, (out, lse))| {
                    isa.dispatch(Strip {
                        attention,
                        q,
                        row: i * rows,
                        packed: &packed,
                        packed_keys,
                        out,
                        lse,
                    });
                });
        });
}

/// Packs a head's keys, transposed, and values.
struct Pack<'a> {
    keys: (MatrixView<'a>, &'a mut [f32]),
    values: (MatrixView<'a>, &'a mut [f32]),
    tokens: usize,
    dim: usize,
}

impl WithSimd for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        pack_right(simd, self.keys.0, self.dim, self.tokens, self.keys.1);
        pack_right(simd, self.values.0, self.tokens, self.dim, self.values.1);
    }
}

/// Some rows of the output.
struct Strip<'a> {
    attention: &'a Attention,
    q: &'a [f32],
    /// The first row.
    row: usize,
    /// For each head, the keys and the values.
    packed: &'a [f32],
    packed_keys: usize,
    out: &'a mut [f32],
    lse: &'a mut [f32],
}

impl WithSimd for Strip<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Attention {
            tokens, heads, dim, ..
        } = *self.attention;
        let width = self.attention.width();
        let scale = self.attention.scale();
        let rows = self.out.len() / width;
        let mut scores = Scratch::take(rows * tokens);
        let mut left = Scratch::take(left_len(rows, tokens.max(dim)));
        let mut sums = [0.0f32; STRIP];
        for (h, packed) in self
            .packed
            .chunks_exact(self.packed.len() / heads)
            .enumerate()
        {
            let (keys, values) = packed.split_at(self.packed_keys);
            let q = self.attention.head(self.q, self.row, h);
            pack_left(simd, q, rows, dim, &mut left);
            let mut out = Output {
                data: &mut scores,
                stride: tokens,
                add: false,
                bias: None,
            };
            multiply(simd, [rows, tokens, dim], &left, keys, &mut out);
            for (i, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                let (max, sum) = exponentials(simd, scores, scale);
                sums[i] = sum;
                self.lse[i * heads + h] =
                    rounded(f64::from(scale) * f64::from(max) + f64::from(sum).ln());
            }
            pack_left(
                simd,
                MatrixView::rows(&scores, tokens),
                rows,
                tokens,
                &mut left,
            );
            let mut out = Output {
                data: &mut self.out[h * dim..],
                stride: width,
                add: false,
                bias: None,
            };
            multiply(simd, [rows, dim, tokens], &left, values, &mut out);
            for (out, sum) in self.out.chunks_exact_mut(width).zip(&sums) {
                let factor = simd.splat_f32s(sum.recip());
                let out = [&mut out[h * dim..][..dim]];
                vector::zip!(S, simd, [], over out, into [], |[], [x]| {
                    ([simd.mul_f32s(x, factor)], [])
                });
            }
        }
    }
}

/// Replaces each x by exp(scale·(x − max)); returns max and the sum.
#[inline(always)]
fn exponentials<S: Simd>(simd: S, row: &mut [f32], scale: f32) -> (f32, f32) {
    let (vectors, tail) = S::as_mut_simd_f32s(row);
    let mut most = simd.splat_f32s(f32::NEG_INFINITY);
    for &mut x in &mut *vectors {
        most = simd.max_f32s(most, x);
    }
    let max = tail
        .iter()
        .fold(simd.reduce_max_f32s(most), |m, &x| m.max(x));
    let (centre, factor) = (simd.splat_f32s(max), simd.splat_f32s(scale));
    let mut sums = simd.splat_f32s(0.0);
    for x in vectors {
        *x = vector::exp(simd, simd.mul_f32s(simd.sub_f32s(*x, centre), factor));
        sums = simd.add_f32s(sums, *x);
    }
    if !tail.is_empty() {
        let x = simd.sub_f32s(simd.partial_load_f32s(tail), centre);
        simd.partial_store_f32s(tail, vector::exp(simd, simd.mul_f32s(x, factor)));
    }
    (max, simd.reduce_sum_f32s(sums) + tail.iter().sum::<f32>())
}
