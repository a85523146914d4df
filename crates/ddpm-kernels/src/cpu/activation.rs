//! SiLU and sums of tensors on their own, where no neighbour's loop could take them in.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::Isa;
use super::vector;

/// Elements a task works on: 64 KiB, about ten microseconds.
const TASK: usize = 16 * 1024;

/// y = x·σ(x) (Ramachandran et al. 2017; Elfwing et al. 2018).
///
/// # Panics
///
/// If the lengths differ.
pub fn silu(isa: Isa, x: &[f32], y: &mut [f32]) {
    struct Silu<'a>(&'a [f32], &'a mut [f32]);
    impl WithSimd for Silu<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            vector::zip!(S, simd, [self.0], [self.1], |[x], _| [vector::silu(
                simd, x
            )]);
        }
    }
    assert_eq!(x.len(), y.len(), "silu: x and y");
    y.par_chunks_mut(TASK)
        .zip(x.par_chunks(TASK))
        .for_each(|(y, x)| isa.dispatch(Silu(x, y)));
}

/// dx = dy·σ(x)(1 + x(1 − σ(x))).
///
/// # Panics
///
/// If the lengths differ.
pub fn silu_backward(isa: Isa, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    struct Slope<'a>(&'a [f32], &'a [f32], &'a mut [f32]);
    impl WithSimd for Slope<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            vector::zip!(S, simd, [self.0, self.1], [self.2], |[x, dy], _| {
                [simd.mul_f32s(dy, vector::silu_slope(simd, x))]
            });
        }
    }
    assert!(
        x.len() == dx.len() && dy.len() == dx.len(),
        "silu_backward: x, dy and dx"
    );
    dx.par_chunks_mut(TASK)
        .zip(x.par_chunks(TASK).zip(dy.par_chunks(TASK)))
        .for_each(|(dx, (x, dy))| isa.dispatch(Slope(x, dy, dx)));
}

/// out = a + b, the residual connection. Its gradient is the identity for both terms.
///
/// # Panics
///
/// If the lengths differ.
pub fn add(isa: Isa, a: &[f32], b: &[f32], out: &mut [f32]) {
    struct Add<'a>(&'a [f32], &'a [f32], &'a mut [f32]);
    impl WithSimd for Add<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            vector::zip!(S, simd, [self.0, self.1], [self.2], |[a, b], _| {
                [simd.add_f32s(a, b)]
            });
        }
    }
    assert!(
        a.len() == out.len() && b.len() == out.len(),
        "add: a, b and out"
    );
    out.par_chunks_mut(TASK)
        .zip(a.par_chunks(TASK).zip(b.par_chunks(TASK)))
        .for_each(|(out, (a, b))| isa.dispatch(Add(a, b, out)));
}

/// total += term, where gradients of several users of a tensor meet.
///
/// # Panics
///
/// If the lengths differ.
pub fn add_assign(isa: Isa, total: &mut [f32], term: &[f32]) {
    struct AddAssign<'a>(&'a mut [f32], &'a [f32]);
    impl WithSimd for AddAssign<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            vector::zip!(S, simd, [self.1], [self.0], |[term], [total]| {
                [simd.add_f32s(total, term)]
            });
        }
    }
    assert_eq!(total.len(), term.len(), "add_assign: total and term");
    total
        .par_chunks_mut(TASK)
        .zip(term.par_chunks(TASK))
        .for_each(|(total, term)| isa.dispatch(AddAssign(total, term)));
}

/// y = eˣ within 2 ulp, for every float.
///
/// # Panics
///
/// If the lengths differ.
pub fn exp(isa: Isa, x: &[f32], y: &mut [f32]) {
    struct Exp<'a>(&'a [f32], &'a mut [f32]);
    impl WithSimd for Exp<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            vector::zip!(S, simd, [self.0], [self.1], |[x], _| [vector::exp(simd, x)]);
        }
    }
    assert_eq!(x.len(), y.len(), "exp: x and y");
    y.par_chunks_mut(TASK)
        .zip(x.par_chunks(TASK))
        .for_each(|(y, x)| isa.dispatch(Exp(x, y)));
}
