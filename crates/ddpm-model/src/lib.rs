//! Networks for diffusion models, as Burn modules.
//!
//! [`UNet`] is the network of Ho et al. 2020 with everything the published checkpoints vary; its
//! fields are named as in diffusers' `UNet2DModel`, so that weights can be exchanged. [`Mlp`] is a
//! small network for 2-D points. Both take x_t and the time a batch is at; neither knows what a
//! schedule or a diffusion process is.
//!
//! Weights are drawn on the host from a seed, so they are the same on every backend, and dropout
//! masks come in from outside ([`Masks`]): nothing here draws from a backend's generator.
#![doc = ""]
#![doc = include_str!("../README.md")]

mod attention;
mod block;
mod condition;
mod embedding;
mod init;
mod layer;
mod mlp;
mod network;
mod resample;
mod unet;
pub mod weights;

pub use attention::Attention;
pub use block::{DownBlock, MidBlock, ResnetBlock, UpBlock};
pub use condition::Condition;
pub use ddpm_kernels::{PackedWeights, keep_packed_weights};
pub use embedding::{TimeEmbedding, sinusoidal_embedding};
pub use layer::Activation;
pub use mlp::{Mlp, MlpConfig};
pub use network::Network;
pub use resample::{Downsample, Upsample};
pub use unet::{UNet, UNetConfig};

use burn::tensor::Tensor;

/// Where dropout masks come from: given p in [0, 1) and the shape `[B, H, W, C]` of an activation, a
/// tensor of that shape with 0 where a value is dropped and 1/(1 − p) where it is kept.
///
/// Passing `None` for the masks of a forward pass is evaluation: nothing is dropped.
pub type Masks<'a> = dyn FnMut(f64, [usize; 4]) -> Tensor<4> + 'a;

/// Why a network cannot be built, or cannot take an input.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// A count that is zero, or larger than that of any network.
    #[error("{name} must be in 1..={MAX_COUNT}, not {value}")]
    Count {
        /// The field.
        name: &'static str,
        /// Its value.
        value: usize,
    },
    /// The group norms split every level's channels evenly.
    #[error("{channels} channels do not divide into {groups} groups (norm_num_groups)")]
    Groups {
        /// Channels of the level.
        channels: usize,
        /// The configured number of groups.
        groups: usize,
    },
    /// Attention splits a level's channels into heads of equal width.
    #[error("{channels} channels do not divide into heads of width {width} (attention_head_dim)")]
    Heads {
        /// Channels of the level.
        channels: usize,
        /// The configured width of a head.
        width: usize,
    },
    /// One attention switch per level is needed.
    #[error("attention has {got} entries for {levels} levels of block_out_channels")]
    Attention {
        /// Entries of `attention`.
        got: usize,
        /// Entries of `block_out_channels`.
        levels: usize,
    },
    /// Only diffusers' networks with `scale_shift` lack the norm.
    #[error("mid_attention_norm = false needs scale_shift = true")]
    MidNorm,
    /// A number outside its range.
    #[error("{name} = {value} is outside {range}")]
    Range {
        /// The field.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The range it must lie in.
        range: &'static str,
    },
    /// Every level but the last halves the image.
    #[error("an image of {height}×{width} cannot be halved {halvings} times")]
    ImageSize {
        /// Image height in pixels.
        height: usize,
        /// Image width in pixels.
        width: usize,
        /// How often the network halves it.
        halvings: usize,
    },
}

/// The most channels, blocks or classes a network may have. Sizes of weights are products of a few
/// counts, which thus never overflow.
const MAX_COUNT: usize = 1 << 20;

fn count(name: &'static str, value: usize) -> Result<(), ModelError> {
    if (1..=MAX_COUNT).contains(&value) {
        return Ok(());
    }
    Err(ModelError::Count { name, value })
}
