//! The mathematics of [`ddpm_schedule`] on tensors.
//!
//! Everything works on tensors of any rank `D` whose first axis is the batch (2-D points, images,
//! …), on any device and backend. The caller supplies all randomness, usually from a
//! [`NoiseStream`].
//!
//! | equation | function |
//! |---|---|
//! | x_t = a_t·x₀ + b_t·ε | [`diffuse`] |
//! | x_t = (a_t/a_s)·x_s + σ·z | [`transition`] |
//! | E‖target − f(x_t, t)‖² | [`training_loss`], [`Example`] |
//! | L_simple + 0.001·L_vlb | [`hybrid_loss`] |
//! | x̂₀ = E\[x₀ given x_t\] | [`Denoiser`], [`Predictor`], [`Clipped`], [`Guided`] |
//! | E\[x₀ given x_t\] of a mixture of Gaussians | [`oracle::Mixture`] |
//! | x_s = c·x_t + Σ_k (c_k·x⁽ᵏ⁾ + c_k'·x̂₀⁽ᵏ⁾) + Σ_j σ_j·z_j | [`Reverse`] |
#![doc = ""]
#![doc = include_str!("../README.md")]

mod adaptive;
mod clip;
mod denoiser;
mod forward;
mod hybrid;
mod loss;
mod noise;
pub mod oracle;
mod output;
mod reverse;
mod rows;

pub use adaptive::AdaptiveReverse;
pub use clip::{Clip, ClipError};
pub use ddpm_schedule as schedule;
pub use denoiser::{AfterClip, Clipped, Denoiser, Guided, Prediction, Predictor};
pub use forward::{diffuse, transition};
pub use hybrid::{Decoder, hybrid_loss};
pub use loss::{Example, training_loss};
pub use noise::{NoiseStream, RowRng};
pub use reverse::{Reverse, State};
