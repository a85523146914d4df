//! exp, SiLU and its slope against f64.

use pulp::{Simd, WithSimd};

use crate::cpu::isa::Isa;
use crate::cpu::vector;

/// eˣ, SiLU(x) and SiLU'(x) of every element.
struct Functions<'a>(&'a [f32]);

impl WithSimd for Functions<'_> {
    type Output = [Vec<f32>; 3];
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [Vec<f32>; 3] {
        let [mut exp, mut silu, mut slope] = [(); 3].map(|()| vec![7.0; self.0.len()]);
        let out = [&mut exp[..], &mut silu, &mut slope];
        vector::zip!(S, simd, [self.0], over [], into out, |[x], []| {
            let exp = vector::exp(simd, x);
            ([], [exp, vector::silu(simd, x), vector::silu_slope(simd, x)])
        });
        [exp, silu, slope]
    }
}

/// Every 1021st float, and floats at the edges of the functions.
fn floats() -> Vec<f32> {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        88.0,
        88.72,
        88.723,
        88.7228,
        89.0,
        -87.0,
        -87.34,
        -88.0,
        -103.0,
        -103.97,
        -103.98,
        -104.0,
        -105.0,
        16.0,
        -16.0,
        87.0,
    ];
    (0..u32::MAX)
        .step_by(1021)
        .map(f32::from_bits)
        .chain((-110_000..=90_000).map(|i| 1e-3 * i as f32))
        .chain(special)
        .collect()
}

/// The distance between neighbouring floats at `x`.
#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding to f32 is the point"
)]
fn ulp(x: f64) -> f64 {
    let x = (x.abs() as f32).clamp(f32::MIN_POSITIVE, f32::MAX);
    f64::from(x) - f64::from(f32::from_bits(x.to_bits() - 1)).max(0.0)
}

/// `|y − exact| ≤ bound`, and NaN and ∞ where the exact value, rounded, is NaN or ∞.
#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding to f32 is the point"
)]
fn assert_close(isa: Isa, x: f32, y: f32, exact: f64, bound: f64) {
    let rounded = exact as f32;
    let agrees = if rounded.is_finite() && y.is_finite() {
        (f64::from(y) - exact).abs() <= bound
    } else {
        rounded.is_nan() == y.is_nan() && (rounded.is_nan() || rounded == y)
    };
    assert!(agrees, "{isa:?}: f({x:e}) = {y:e}, exactly {exact:e}");
}

#[test]
fn exp_is_within_two_ulp_of_every_float() {
    let x = floats();
    for isa in Isa::available() {
        let [y, ..] = isa.dispatch(Functions(&x));
        for (&x, &y) in x.iter().zip(&y) {
            let exact = f64::from(x).exp();
            // The largest float may round up to ∞ within 2 ulp.
            if y.is_infinite() && exact > 0.999_999_9 * f64::from(f32::MAX) {
                continue;
            }
            assert_close(isa, x, y, exact, 2.0 * ulp(exact));
        }
    }
}

#[test]
fn silu_and_its_slope_at_every_float() {
    let x = floats();
    for isa in Isa::available() {
        let [_, y, slope] = isa.dispatch(Functions(&x));
        for ((&x, &y), &slope) in x.iter().zip(&y).zip(&slope) {
            let z = f64::from(x);
            // exp(−|z|) serves both signs without overflow.
            let e = (-z.abs()).exp();
            let (sigma, rest) = if z < 0.0 { (e, 1.0) } else { (1.0, e) };
            let (sigma, rest) = (sigma / (1.0 + e), rest / (1.0 + e));
            let infinite = z.is_infinite();
            let exact = if infinite { z.max(0.0) } else { z * sigma };
            assert_close(isa, x, y, exact, 4.0 * ulp(exact) + 1e-36);
            // σ(1 + z(1 − σ)) vanishes at z ≈ −1.28: its terms, not their sum, bound the error.
            let inner = if infinite { 0.0 } else { z * rest };
            let terms = sigma * (1.0 + inner.abs());
            assert_close(
                isa,
                x,
                slope,
                sigma * (1.0 + inner),
                6.0 * ulp(terms) + 1e-36,
            );
        }
    }
}
