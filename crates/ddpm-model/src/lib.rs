//! Networks for diffusion models, as Burn modules.
//!
//! A network implements [`Network`]: it predicts from x_t, the time of each row and a [`Condition`].
//! [`UNet`] is the network of Ho et al. 2020 with the variations of the published checkpoints. Its
//! fields are named as in diffusers' `UNet2DModel`, so that weights can be exchanged. [`Mlp`] is a
//! small network for points. Nothing here depends on a schedule or a diffusion process.
//!
//! Weights are drawn on the host from a seed, so they are the same on every backend. Dropout masks
//! come from the caller ([`Masks`]), so nothing here uses a backend's random generator.
#![doc = ""]
#![doc = include_str!("../README.md")]

mod attention;
mod block;
mod condition;
mod config;
mod embedding;
mod error;
mod footprint;
mod init;
mod layer;
mod mlp;
mod network;
mod resample;
mod unet;
pub mod weights;

pub use attention::Attention;
pub use block::{DownBlock, MidBlock, ResnetBlock, UpBlock};
pub use condition::{Condition, ConditionError, ConditionSpec};
pub use config::UNetConfig;
pub use ddpm_kernels::{PackedWeights, keep_packed_weights};
pub use embedding::{TimeEmbedding, sinusoidal_embedding};
pub use error::ModelError;
pub use footprint::Footprint;
pub use layer::Activation;
pub use mlp::{Mlp, MlpConfig};
pub use network::{Masks, Network};
pub use resample::{Downsample, Upsample};
pub use unet::UNet;
