//! The transforms of Winograd's minimal filtering.

#![allow(
    clippy::needless_range_loop,
    reason = "indices that are constants once unrolled"
)]

use pulp::Simd;

/// The transforms of one tile size; matrices of Lavin and Gray, §4.1 and §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tile {
    /// F(2×2, 3×3)
    Two,
    /// F(4×4, 3×3)
    Four,
}

impl Tile {
    /// Outputs along an axis.
    pub(crate) fn outputs(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Inputs along an axis.
    pub(super) fn inputs(self) -> usize {
        self.outputs() + 2
    }

    /// Multiplications along an axis of `output` pixels.
    pub(crate) fn products(self, output: usize) -> usize {
        output.div_ceil(self.outputs()) * self.inputs()
    }

    /// G.
    pub(super) fn filter(self) -> &'static [[f32; 3]] {
        match self {
            Self::Two => &[
                [1.0, 0.0, 0.0],
                [0.5, 0.5, 0.5],
                [0.5, -0.5, 0.5],
                [0.0, 0.0, 1.0],
            ],
            Self::Four => &[
                [0.25, 0.0, 0.0],
                [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
                [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
                [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
                [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
                [0.0, 0.0, 1.0],
            ],
        }
    }
}

/// The one-dimensional transforms on vectors, in place.
pub(super) trait Transform<S: Simd> {
    /// Outputs of a tile along an axis.
    const OUTPUTS: usize;
    /// d ↦ Bᵀd.
    fn input(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6];
    /// m ↦ Aᵀm.
    fn output(simd: S, m: [S::f32s; 6]) -> [S::f32s; 6];
}

/// F(2×2, 3×3)
pub(super) struct Two;
/// F(4×4, 3×3)
pub(super) struct Four;

impl<S: Simd> Transform<S> for Two {
    const OUTPUTS: usize = 2;

    #[inline(always)]
    fn input(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
        let [a, b, c, e, ..] = d;
        let zero = simd.splat_f32s(0.0);
        [
            simd.sub_f32s(a, c),
            simd.add_f32s(b, c),
            simd.sub_f32s(c, b),
            simd.sub_f32s(b, e),
            zero,
            zero,
        ]
    }

    #[inline(always)]
    fn output(simd: S, m: [S::f32s; 6]) -> [S::f32s; 6] {
        let [a, b, c, e, ..] = m;
        let zero = simd.splat_f32s(0.0);
        let first = simd.add_f32s(simd.add_f32s(a, b), c);
        let second = simd.sub_f32s(simd.sub_f32s(b, c), e);
        [first, second, zero, zero, zero, zero]
    }
}

impl<S: Simd> Transform<S> for Four {
    const OUTPUTS: usize = 4;

    #[inline(always)]
    fn input(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
        let [four, five] = [simd.splat_f32s(4.0), simd.splat_f32s(-5.0)];
        let minus_four = simd.splat_f32s(-4.0);
        let even = simd.mul_add_e_f32s(minus_four, d[2], d[4]);
        let odd = simd.mul_add_e_f32s(minus_four, d[1], d[3]);
        let near = simd.sub_f32s(d[4], d[2]);
        let far = simd.sub_f32s(d[3], d[1]);
        let far = simd.add_f32s(far, far);
        [
            simd.mul_add_e_f32s(four, d[0], simd.mul_add_e_f32s(five, d[2], d[4])),
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            simd.add_f32s(near, far),
            simd.sub_f32s(near, far),
            simd.mul_add_e_f32s(four, d[1], simd.mul_add_e_f32s(five, d[3], d[5])),
        ]
    }

    #[inline(always)]
    fn output(simd: S, m: [S::f32s; 6]) -> [S::f32s; 6] {
        let [four, eight] = [simd.splat_f32s(4.0), simd.splat_f32s(8.0)];
        let sum = simd.add_f32s(m[1], m[2]);
        let difference = simd.sub_f32s(m[1], m[2]);
        let far_sum = simd.add_f32s(m[3], m[4]);
        let far = simd.sub_f32s(m[3], m[4]);
        let zero = simd.splat_f32s(0.0);
        [
            simd.add_f32s(simd.add_f32s(m[0], sum), far_sum),
            simd.add_f32s(simd.add_f32s(far, far), difference),
            simd.mul_add_e_f32s(four, far_sum, sum),
            simd.add_f32s(simd.mul_add_e_f32s(eight, far, difference), m[5]),
            zero,
            zero,
        ]
    }
}

/// Bᵀ d B, or with `BACK` Aᵀ d A.
///
/// The transforms are named here, not passed: what is called through a function value is compiled
/// without the instruction set.
#[inline(always)]
pub(super) fn both_axes<S: Simd, T: Transform<S>, const BACK: bool>(
    simd: S,
    mut d: [[S::f32s; 6]; 6],
) -> [[S::f32s; 6]; 6] {
    for y in 0..T::OUTPUTS + 2 {
        d[y] = if BACK {
            T::output(simd, d[y])
        } else {
            T::input(simd, d[y])
        };
    }
    for x in 0..if BACK { T::OUTPUTS } else { T::OUTPUTS + 2 } {
        let column = [d[0][x], d[1][x], d[2][x], d[3][x], d[4][x], d[5][x]];
        let column = if BACK {
            T::output(simd, column)
        } else {
            T::input(simd, column)
        };
        for y in 0..6 {
            d[y][x] = column[y];
        }
    }
    d
}
