//! The allowed range of tensor coefficients.

/// The largest magnitude of a coefficient. An f32 reaches 3.4·10³⁸, so the product with a value up
/// to a million is still finite.
const MAX_COEFFICIENT: f64 = 1e32;

/// Whether `x` is a number and at most 10³² in magnitude.
pub(crate) fn fits(x: f64) -> bool {
    x.abs() <= MAX_COEFFICIENT
}
