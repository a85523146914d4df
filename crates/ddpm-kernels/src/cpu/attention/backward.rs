//! The gradient of attention, strip by strip.
//!
//! With P = exp(q·kᵀ/√d − lse), dP = dout·vᵀ and δ = Σ dout·out along a row,
//!
//! ```text
//! dS = P∘(dP − δ)/√d,   dq = dS·k,   dk = dSᵀ·q,   dv = Pᵀ·dout.
//! ```

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::sizes::Attention;
use crate::cpu::gemm::{MatrixView, Output, left_len, multiply, pack_left, pack_right, right_len};
use crate::cpu::isa::Isa;
use crate::cpu::scratch::Scratch;
use crate::cpu::vector;

/// The forward pass's inputs and outputs, and the gradient of its output.
#[derive(Clone, Copy)]
struct ForwardPass<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    dout: &'a [f32],
    lse: &'a [f32],
}

/// Computes the gradients of q, k and v, from dout and from the inputs and outputs of
/// [`forward`](super::forward::forward).
///
/// # Panics
///
/// If a size is 0 or a length does not match.
pub fn backward(
    isa: Isa,
    attention: &Attention,
    qkv: [&[f32]; 3],
    (out, lse): (&[f32], &[f32]),
    dout: &[f32],
    gradients: [&mut [f32]; 3],
) {
    let Attention {
        tokens, heads, dim, ..
    } = *attention;
    let [dq, dk, dv] = gradients;
    let lengths = [qkv[0], qkv[1], qkv[2], out, dout, dq, dk, dv].map(<[f32]>::len);
    attention.check(&lengths, lse.len());
    let size = attention.size();
    (dq.par_chunks_mut(size))
        .zip(dk.par_chunks_mut(size).zip(dv.par_chunks_mut(size)))
        .enumerate()
        .for_each(|(b, (dq, (dk, dv)))| {
            let [q, k, v, out, dout] = attention.sequence([qkv[0], qkv[1], qkv[2], out, dout], b);
            let pass = ForwardPass {
                q,
                k,
                v,
                out,
                dout,
                lse: &lse[b * tokens * heads..][..tokens * heads],
            };
            let mut all = Scratch::take(3 * size);
            (all.par_chunks_mut(3 * tokens * dim).enumerate()).for_each(|(h, gradients)| {
                isa.dispatch(Head {
                    attention,
                    pass,
                    h,
                    gradients,
                });
            });
            for (h, from) in all.chunks_exact(3 * tokens * dim).enumerate() {
                let from = from.chunks_exact(tokens * dim);
                for (to, from) in [&mut *dq, &mut *dk, &mut *dv].into_iter().zip(from) {
                    let rows = to.chunks_exact_mut(attention.width());
                    for (to, from) in rows.zip(from.chunks_exact(dim)) {
                        to[h * dim..][..dim].copy_from_slice(from);
                    }
                }
            }
        });
}

/// One head of one sequence.
struct Head<'a> {
    attention: &'a Attention,
    pass: ForwardPass<'a>,
    h: usize,
    /// dq, dk and dv, each `[tokens, dim]`.
    gradients: &'a mut [f32],
}

impl WithSimd for Head<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            attention,
            pass,
            h,
            gradients,
        } = self;
        let (n, dim, strip) = (attention.tokens, attention.dim, attention.strip());
        let head = |x, row| attention.head(x, row, h);
        let (dq, rest) = gradients.split_at_mut(n * dim);
        let (dk, dv) = rest.split_at_mut(n * dim);
        dk.fill(0.0);
        dv.fill(0.0);

        let mut keys_t = Scratch::take(right_len(dim, n));
        let mut values_t = Scratch::take(right_len(dim, n));
        let mut keys = Scratch::take(right_len(n, dim));
        pack_right(simd, head(pass.k, 0).transposed(), dim, n, &mut keys_t);
        pack_right(simd, head(pass.v, 0).transposed(), dim, n, &mut values_t);
        pack_right(simd, head(pass.k, 0), n, dim, &mut keys);

        let mut p = Scratch::take(strip * n);
        let mut ds = Scratch::take(strip * n);
        let mut left = Scratch::take(
            left_len(strip, dim)
                .max(left_len(n, strip))
                .max(left_len(strip, n)),
        );
        let mut right = Scratch::take(right_len(strip, dim));
        for row in (0..n).step_by(strip) {
            let rows = strip.min(n - row);
            let (p, ds) = (&mut p[..rows * n], &mut ds[..rows * n]);
            pack_left(simd, head(pass.q, row), rows, dim, &mut left);
            multiply(simd, [rows, n, dim], &left, &keys_t, &mut overwritten(p, n));
            pack_left(simd, head(pass.dout, row), rows, dim, &mut left);
            multiply(
                simd,
                [rows, n, dim],
                &left,
                &values_t,
                &mut overwritten(ds, n),
            );
            for (i, (p, ds)) in p
                .chunks_exact_mut(n)
                .zip(ds.chunks_exact_mut(n))
                .enumerate()
            {
                weights(simd, attention, pass, (row + i, h), p, ds);
            }

            pack_left(simd, MatrixView::rows(ds, n), rows, n, &mut left);
            let dq = &mut dq[row * dim..];
            multiply(
                simd,
                [rows, dim, n],
                &left,
                &keys,
                &mut overwritten(dq, dim),
            );
            for (a, b, to) in [(&*ds, pass.q, &mut *dk), (&*p, pass.dout, &mut *dv)] {
                pack_left(
                    simd,
                    MatrixView::rows(a, n).transposed(),
                    n,
                    rows,
                    &mut left,
                );
                pack_right(simd, head(b, row), rows, dim, &mut right);
                let mut to = Output {
                    add: true,
                    ..overwritten(to, dim)
                };
                multiply(simd, [n, dim, rows], &left, &right, &mut to);
            }
        }
    }
}

/// An output with rows of `stride` floats, which are overwritten.
fn overwritten(data: &mut [f32], stride: usize) -> Output<'_> {
    Output {
        data,
        stride,
        add: false,
        bias: None,
    }
}

/// Replaces a row's scores by P and its dP by dS.
#[inline(always)]
fn weights<S: Simd>(
    simd: S,
    attention: &Attention,
    pass: ForwardPass<'_>,
    (row, h): (usize, usize),
    p: &mut [f32],
    ds: &mut [f32],
) {
    let at = row * attention.width() + h * attention.dim;
    let (out, dout) = (
        &pass.out[at..][..attention.dim],
        &pass.dout[at..][..attention.dim],
    );
    let delta = simd.splat_f32s(dot(simd, out, dout));
    let lse = simd.splat_f32s(-pass.lse[row * attention.heads + h]);
    let scale = simd.splat_f32s(attention.scale());
    vector::zip!(S, simd, [], over [p, ds], into [], |[], [s, dp]| {
        let p = vector::exp(simd, simd.mul_add_e_f32s(s, scale, lse));
        let ds = simd.mul_f32s(simd.mul_f32s(p, scale), simd.sub_f32s(dp, delta));
        ([p, ds], [])
    });
}

#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a, a_tail) = S::as_simd_f32s(a);
    let (b, b_tail) = S::as_simd_f32s(b);
    let mut sums = simd.splat_f32s(0.0);
    for (&a, &b) in a.iter().zip(b) {
        sums = simd.mul_add_e_f32s(a, b, sums);
    }
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sums) + tail
}
