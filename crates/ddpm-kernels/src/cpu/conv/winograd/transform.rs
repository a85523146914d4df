//! The transforms of Winograd's minimal filtering.

#![allow(
    clippy::needless_range_loop,
    reason = "indices that are constants once unrolled"
)]

use pulp::Simd;

/// Vectors of `N`×`N` points.
pub(super) type Square<S, const N: usize> = [[<S as Simd>::f32s; N]; N];

/// A linear map of vectors along an axis.
pub(super) trait Linear<S: Simd, const FROM: usize, const TO: usize> {
    /// Applies it.
    fn apply(simd: S, v: [S::f32s; FROM]) -> [S::f32s; TO];
}

/// The one-dimensional transforms of F(`M`×`M`, 3×3), whose tiles have `N` = `M` + 2 inputs per side.
pub(super) trait Transform<S: Simd, const M: usize, const N: usize> {
    /// d ↦ Bᵀd.
    type Input: Linear<S, N, N>;
    /// m ↦ Aᵀm.
    type Output: Linear<S, N, M>;
    /// dy ↦ A dy, the transpose of [`Self::Output`].
    type OutputGradient: Linear<S, M, N>;
    /// u ↦ Gᵀu, the transpose of the filters' transform.
    type Filter: Linear<S, N, 3>;
}

/// F(2×2, 3×3)
pub(super) struct F2;
/// F(4×4, 3×3)
pub(super) struct F4;

impl<S: Simd> Transform<S, 2, 4> for F2 {
    type Input = F2Input;
    type Output = F2Output;
    type OutputGradient = F2OutputGradient;
    type Filter = F2Filter;
}

impl<S: Simd> Transform<S, 4, 6> for F4 {
    type Input = F4Input;
    type Output = F4Output;
    type OutputGradient = F4OutputGradient;
    type Filter = F4Filter;
}

/// Defines a linear map: its name, how many vectors it takes and gives, and its formula.
macro_rules! linear {
    ($name:ident: $from:literal -> $to:literal, |$simd:ident, $v:pat_param| $body:expr) => {
        pub(super) struct $name;
        impl<S: Simd> Linear<S, $from, $to> for $name {
            #[inline(always)]
            fn apply($simd: S, $v: [S::f32s; $from]) -> [S::f32s; $to] {
                $body
            }
        }
    };
}

linear!(F2Input: 4 -> 4, |simd, [a, b, c, d]| [
    simd.sub_f32s(a, c),
    simd.add_f32s(b, c),
    simd.sub_f32s(c, b),
    simd.sub_f32s(b, d),
]);

linear!(F2Output: 4 -> 2, |simd, [a, b, c, d]| [
    simd.add_f32s(simd.add_f32s(a, b), c),
    simd.sub_f32s(simd.sub_f32s(b, c), d),
]);

linear!(F2OutputGradient: 2 -> 4, |simd, [a, b]| [
    a,
    simd.add_f32s(a, b),
    simd.sub_f32s(a, b),
    simd.neg_f32s(b),
]);

linear!(F2Filter: 4 -> 3, |simd, [a, b, c, d]| {
    let half = simd.splat_f32s(0.5);
    let sum = simd.mul_f32s(half, simd.add_f32s(b, c));
    [
        simd.add_f32s(a, sum),
        simd.mul_f32s(half, simd.sub_f32s(b, c)),
        simd.add_f32s(sum, d),
    ]
});

linear!(F4Input: 6 -> 6, |simd, [a, b, c, d, e, f]| {
    let [four, five] = [simd.splat_f32s(4.0), simd.splat_f32s(-5.0)];
    let minus_four = simd.splat_f32s(-4.0);
    let even = simd.mul_add_e_f32s(minus_four, c, e);
    let odd = simd.mul_add_e_f32s(minus_four, b, d);
    let near = simd.sub_f32s(e, c);
    let far = simd.sub_f32s(d, b);
    let far = simd.add_f32s(far, far);
    [
        simd.mul_add_e_f32s(four, a, simd.mul_add_e_f32s(five, c, e)),
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(near, far),
        simd.sub_f32s(near, far),
        simd.mul_add_e_f32s(four, b, simd.mul_add_e_f32s(five, d, f)),
    ]
});

linear!(F4Output: 6 -> 4, |simd, [a, b, c, d, e, f]| {
    let [four, eight] = [simd.splat_f32s(4.0), simd.splat_f32s(8.0)];
    let sum = simd.add_f32s(b, c);
    let difference = simd.sub_f32s(b, c);
    let far_sum = simd.add_f32s(d, e);
    let far = simd.sub_f32s(d, e);
    [
        simd.add_f32s(simd.add_f32s(a, sum), far_sum),
        simd.add_f32s(simd.add_f32s(far, far), difference),
        simd.mul_add_e_f32s(four, far_sum, sum),
        simd.add_f32s(simd.mul_add_e_f32s(eight, far, difference), f),
    ]
});

linear!(F4OutputGradient: 4 -> 6, |simd, [a, b, c, d]| {
    let [two, four, eight] = [2.0, 4.0, 8.0].map(|x| simd.splat_f32s(x));
    let [even, odd] = [simd.add_f32s(a, c), simd.add_f32s(b, d)];
    let far_even = simd.mul_add_e_f32s(four, c, a);
    let far_odd = simd.mul_add_e_f32s(eight, d, simd.mul_f32s(two, b));
    [
        a,
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(far_even, far_odd),
        simd.sub_f32s(far_even, far_odd),
        d,
    ]
});

linear!(F4Filter: 6 -> 3, |simd, [a, b, c, d, e, f]| {
    let [quarter, sixth] = [0.25, 1.0 / 6.0].map(|x| simd.splat_f32s(x));
    let [twelfth, last] = [1.0 / 12.0, 1.0 / 24.0].map(|x| simd.splat_f32s(x));
    let sum = simd.mul_f32s(sixth, simd.add_f32s(b, c));
    let difference = simd.mul_f32s(sixth, simd.sub_f32s(c, b));
    let far_sum = simd.add_f32s(d, e);
    let far = simd.sub_f32s(d, e);
    let first = simd.sub_f32s(simd.mul_f32s(quarter, a), sum);
    let third = simd.sub_f32s(f, sum);
    [
        simd.mul_add_e_f32s(last, far_sum, first),
        simd.mul_add_e_f32s(twelfth, far, difference),
        simd.mul_add_e_f32s(sixth, far_sum, third),
    ]
});

/// `L` along the rows, then along the columns.
///
/// The map is a type, not a function value: a function called through a value is compiled without the
/// instruction set.
#[inline(always)]
pub(super) fn both_axes<S: Simd, L: Linear<S, FROM, TO>, const FROM: usize, const TO: usize>(
    simd: S,
    d: Square<S, FROM>,
) -> Square<S, TO> {
    let zero = simd.splat_f32s(0.0);
    let mut rows = [[zero; TO]; FROM];
    for y in 0..FROM {
        rows[y] = L::apply(simd, d[y]);
    }
    let mut out = [[zero; TO]; TO];
    for x in 0..TO {
        let mut column = [zero; FROM];
        for y in 0..FROM {
            column[y] = rows[y][x];
        }
        let column = L::apply(simd, column);
        for y in 0..TO {
            out[y][x] = column[y];
        }
    }
    out
}
