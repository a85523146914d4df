//! 3×3 convolutions of stride 1 with fewer multiplications.
//!
//! Winograd's minimal filtering F(m×m, 3×3) computes an m×m tile of outputs from its (m+2)×(m+2)
//! inputs d and the filter g (Lavin and Gray 2016, arXiv:1509.09308, §4):
//!
//! ```text
//! y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A
//! ```
//!
//! This takes (m+2)² multiplications instead of 9m². Summed over channels they are (m+2)² matrix
//! products.

mod filters;
mod gradient;
mod images;
mod tiles;
mod transform;
mod variant;

pub(crate) use filters::{Filters, applies};
pub(crate) use gradient::weight_gradient;
pub(crate) use images::convolve;
pub(crate) use variant::Variant;
