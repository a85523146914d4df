//! The range of a number that becomes a coefficient of tensors.

/// The largest size of a coefficient. A tensor of f32 reaches 3.4·10³⁸, so that the product with
/// a number up to a million is still finite.
const LARGEST: f64 = 1e32;

/// Whether tensors can be multiplied by `x`: it is a number, and not above 10³² in size.
pub(crate) fn fits(x: f64) -> bool {
    x.abs() <= LARGEST
}
