//! Functions of one vector register, and loops that apply them to slices.
//!
//! Everything here is `#[inline(always)]`: a function that is not inlined into the dispatched function
//! is compiled without the instruction set.

use pulp::Simd;

/// log₂ e.
const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// 1.5·2²³: adding it rounds a small float to an integer, which is then in the low bits.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has so few bits that its product with n is exact.
const LN2_HI: f32 = 0.693_145_75;
const LN2_LO: f32 = 1.428_606_8e-6;
/// (eʳ − 1 − r)/r² on |r| ≤ ½ ln 2, highest power first (Cephes `expf`, Moshier 1989).
const EXP: [f32; 6] = [
    1.987_569_1e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_6e-1,
    5.0e-1,
];

/// The nearest f32.
#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding to f32 is the point"
)]
pub(crate) fn rounded(value: f64) -> f32 {
    value as f32
}

/// `x` bounded to `[low, high]`; NaN stays NaN on every instruction set.
#[inline(always)]
fn clamp<S: Simd>(simd: S, x: S::f32s, low: f32, high: f32) -> S::f32s {
    let (low, high) = (simd.splat_f32s(low), simd.splat_f32s(high));
    let x = simd.select_f32s(simd.less_than_f32s(x, low), low, x);
    simd.select_f32s(simd.greater_than_f32s(x, high), high, x)
}

/// x = n·ln 2 + r: (eʳ, the bits of [`ROUND`] + n).
#[inline(always)]
fn reduced_exp<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::u32s) {
    let round = simd.splat_f32s(ROUND);
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(LOG2_E), round);
    let n = simd.sub_f32s(shifted, round);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_HI), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_LO), r);
    let mut p = simd.splat_f32s(EXP[0]);
    for c in &EXP[1..] {
        p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(*c));
    }
    let p = simd.mul_add_e_f32s(p, simd.mul_f32s(r, r), r);
    let e = simd.add_f32s(p, simd.splat_f32s(1.0));
    (e, simd.transmute_u32s_f32s(shifted))
}

/// 2^(bits − 127): `bits` becomes a float's exponent field.
#[inline(always)]
fn power_of_two<S: Simd>(simd: S, bits: S::u32s) -> S::f32s {
    simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23)))
}

/// eˣ within 2 ulp for every float: subnormal results, 0, ∞ and NaN included.
///
/// 2ⁿ is applied as two factors, because n reaches below and above a float's exponents.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Beyond these bounds the result is 0 and ∞.
    let (e, bits) = reduced_exp(simd, clamp(simd, x, -105.0, 89.0));
    // u = n + 256 > 0; the halves' biased exponents are ⌊u/2⌋ − 1 and ⌈u/2⌉ − 1.
    let u = simd.sub_u32s(bits, simd.splat_u32s(ROUND.to_bits() - 256));
    let half = simd.wrapping_dyn_shr_u32s(u, simd.splat_u32s(1));
    let one = simd.splat_u32s(1);
    let low = power_of_two(simd, simd.sub_u32s(half, one));
    let high = power_of_two(simd, simd.sub_u32s(simd.sub_u32s(u, half), one));
    simd.mul_f32s(simd.mul_f32s(e, low), high)
}

/// The bounds outside of which σ is taken as constant: |SiLU| < 6e-37 below, σ = 1 in f32 above.
const SILU_LOW: f32 = -88.0;
const SILU_HIGH: f32 = 87.0;

/// (x in [`SILU_LOW`], [`SILU_HIGH`]; e⁻ˣ; σ(x) = 1/(1 + e⁻ˣ)).
#[inline(always)]
fn sigmoid_parts<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s, S::f32s) {
    let x = clamp(simd, x, SILU_LOW, SILU_HIGH);
    let (e, bits) = reduced_exp(simd, simd.neg_f32s(x));
    // Within these bounds −126 ≤ n ≤ 127: one factor suffices.
    let exponent = simd.sub_u32s(bits, simd.splat_u32s(ROUND.to_bits() - 127));
    let e = simd.mul_f32s(e, power_of_two(simd, exponent));
    let one = simd.splat_f32s(1.0);
    (x, e, simd.div_f32s(one, simd.add_f32s(one, e)))
}

/// SiLU(x) = x·σ(x) within 4 ulp or 1e-36; SiLU(−∞) = 0, its limit.
#[inline(always)]
pub(crate) fn silu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (_, _, sigma) = sigmoid_parts(simd, x);
    let low = simd.splat_f32s(SILU_LOW);
    let x = simd.select_f32s(simd.less_than_f32s(x, low), low, x);
    simd.mul_f32s(x, sigma)
}

/// dSiLU/dx = σ·(1 + x·(1 − σ)); 1 − σ is computed as e⁻ˣσ, which does not cancel.
#[inline(always)]
pub(crate) fn silu_slope<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (x, e, sigma) = sigmoid_parts(simd, x);
    let rest = simd.mul_f32s(simd.mul_f32s(e, sigma), x);
    simd.mul_add_e_f32s(rest, sigma, sigma)
}

/// The common length of the slices.
///
/// # Panics
///
/// If their lengths differ.
#[inline(always)]
pub(crate) fn common_len<const X: usize, const Y: usize, const Z: usize>(
    x: &[&[f32]; X],
    y: &[&mut [f32]; Y],
    z: &[&mut [f32]; Z],
) -> usize {
    let len = (y.iter().chain(z).next()).map_or(0, |first| first.len());
    assert!(x.iter().all(|x| x.len() == len));
    assert!(y.iter().all(|y| y.len() == len));
    assert!(z.iter().all(|z| z.len() == len));
    len
}

/// Vector `v` of each slice.
#[inline(always)]
pub(crate) fn load<S: Simd, const N: usize>(simd: S, x: &[&[f32]; N], v: usize) -> [S::f32s; N] {
    let mut vectors = [simd.splat_f32s(0.0); N];
    for (vector, x) in vectors.iter_mut().zip(x) {
        *vector = S::as_simd_f32s(x).0[v];
    }
    vectors
}

/// The rest of each slice after its whole vectors.
#[inline(always)]
pub(crate) fn load_tail<S: Simd, const N: usize>(simd: S, x: &[&[f32]; N]) -> [S::f32s; N] {
    let mut vectors = [simd.splat_f32s(0.0); N];
    for (vector, x) in vectors.iter_mut().zip(x) {
        *vector = simd.partial_load_f32s(S::as_simd_f32s(x).1);
    }
    vectors
}

/// As [`load`], from slices that will be written.
#[inline(always)]
pub(crate) fn load_mut<S: Simd, const N: usize>(
    simd: S,
    x: &[&mut [f32]; N],
    v: usize,
) -> [S::f32s; N] {
    let mut vectors = [simd.splat_f32s(0.0); N];
    for (vector, x) in vectors.iter_mut().zip(x) {
        *vector = S::as_simd_f32s(x).0[v];
    }
    vectors
}

/// As [`load_tail`], from slices that will be written.
#[inline(always)]
pub(crate) fn load_tail_mut<S: Simd, const N: usize>(simd: S, x: &[&mut [f32]; N]) -> [S::f32s; N] {
    let mut vectors = [simd.splat_f32s(0.0); N];
    for (vector, x) in vectors.iter_mut().zip(x) {
        *vector = simd.partial_load_f32s(S::as_simd_f32s(x).1);
    }
    vectors
}

/// Stores `values` as vector `v` of each slice.
#[inline(always)]
pub(crate) fn store<S: Simd, const N: usize>(
    _: S,
    x: &mut [&mut [f32]; N],
    v: usize,
    values: [S::f32s; N],
) {
    for (x, value) in x.iter_mut().zip(values) {
        S::as_mut_simd_f32s(x).0[v] = value;
    }
}

/// Stores `values` as the rest of each slice after its whole vectors.
#[inline(always)]
pub(crate) fn store_tail<S: Simd, const N: usize>(
    simd: S,
    x: &mut [&mut [f32]; N],
    values: [S::f32s; N],
) {
    for (x, value) in x.iter_mut().zip(values) {
        simd.partial_store_f32s(S::as_mut_simd_f32s(x).1, value);
    }
}

/// `zip!(S, simd, [x, …], over [y, …], into [z, …], |[x, …], [y, …]| ([y, …], [z, …]))`: for slices
/// of one length, computes each vector of y and z from those of x and y. z is not read, because an
/// output may be memory that nobody has written.
///
/// This is a macro because a large closure is not inlined and then runs without the instruction set.
macro_rules! zip {
    (
        $S:ident, $simd:expr, $x:expr, over $y:expr, into $z:expr,
        |$in:pat_param, $old:pat_param| $new:expr $(,)?
    ) => {{
        let simd = $simd;
        let x: [&[f32]; _] = $x;
        let mut y: [&mut [f32]; _] = $y;
        let mut z: [&mut [f32]; _] = $z;
        let len = $crate::cpu::vector::common_len(&x, &y, &z);
        for v in 0..len / $S::F32_LANES {
            let $in = $crate::cpu::vector::load(simd, &x, v);
            let $old = $crate::cpu::vector::load_mut(simd, &y, v);
            let (over, into) = $new;
            $crate::cpu::vector::store(simd, &mut y, v, over);
            $crate::cpu::vector::store(simd, &mut z, v, into);
        }
        if !len.is_multiple_of($S::F32_LANES) {
            let $in = $crate::cpu::vector::load_tail(simd, &x);
            let $old = $crate::cpu::vector::load_tail_mut(simd, &y);
            let (over, into) = $new;
            $crate::cpu::vector::store_tail(simd, &mut y, over);
            $crate::cpu::vector::store_tail(simd, &mut z, into);
        }
    }};
}
pub(crate) use zip;

#[cfg(test)]
mod tests;
