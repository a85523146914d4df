//! GroupNorm with its neighbours in a residual block: the time embedding added before it, the scale
//! and shift after it, and SiLU.
//!
//! Over an image's pixels p and the channels c of a group, with u = x + pre,
//!
//! ```text
//! x̂ = (u − mean)/√(var + ε),   z = (x̂·weight + bias)·(1 + scale) + shift,   y = SiLU(z)
//! ```
//!
//! (Wu & He 2018; the scale and shift of Dhariwal & Nichol 2021). Images are read twice in each
//! direction. The moments are accurate for any mean: two passes over the cache sum each chunk of an
//! image about the chunk's own mean, and the formula of Chan, Golub & LeVeque 1983 combines the chunks
//! in f64.

mod backward;
mod chunk;
mod forward;
mod group_norm;

pub use backward::backward;
pub use forward::{forward, forward_again};
pub use group_norm::{GroupNorm, ImageSlices, Moments, NormGradients};
