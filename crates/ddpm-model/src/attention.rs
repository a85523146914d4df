//! Self-attention between the pixels of an image.

use burn::module::Module;
use burn::nn::{GroupNorm, Linear};
use burn::tensor::Tensor;

use crate::config::UNetConfig;
use crate::init::Init;
use crate::layer::{group_norm, pixelwise, rescaled};

/// softmax(QKᵀ/√d)·V over the H·W pixels, after a group norm and inside a residual connection.
#[derive(Module, Debug)]
pub struct Attention {
    /// Absent only in the mid block of some networks ([`UNetConfig::mid_attention_norm`]).
    group_norm: Option<GroupNorm>,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    /// One linear layer; it is in a list because diffusers names its weights `to_out.0`.
    to_out: Vec<Linear>,
    heads: usize,
    rescale: f64,
}

impl Attention {
    /// The attention of a level.
    pub(crate) fn new(init: &mut Init, config: &UNetConfig, channels: usize) -> Self {
        let width = config.attention_head_dim.unwrap_or(channels);
        let norm = init.group_norm(config.norm_num_groups, channels, config.norm_eps);
        Self {
            group_norm: Some(norm),
            to_q: init.linear(channels, channels),
            to_k: init.linear(channels, channels),
            to_v: init.linear(channels, channels),
            to_out: vec![init.zero_linear(channels, channels)],
            heads: channels / width,
            rescale: 1.0,
        }
    }

    /// The mid block's attention.
    pub(crate) fn mid(init: &mut Init, config: &UNetConfig, channels: usize) -> Self {
        let level = Self::new(init, config, channels);
        Self {
            group_norm: level.group_norm.filter(|_| config.mid_attention_norm),
            rescale: config.mid_block_scale_factor,
            ..level
        }
    }

    /// `[B, H, W, C]` → the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let normal = match &self.group_norm {
            Some(norm) => group_norm(norm, x.clone()),
            None => x.clone(),
        };
        let tokens = |linear: &Linear| -> Tensor<3> {
            pixelwise(linear, normal.clone(), None).reshape([batch, height * width, channels])
        };
        let (q, k, v) = (tokens(&self.to_q), tokens(&self.to_k), tokens(&self.to_v));
        let y: Tensor<4> =
            ddpm_kernels::attention(q, k, v, self.heads).reshape([batch, height, width, channels]);
        rescaled(pixelwise(&self.to_out[0], y, Some(x)), self.rescale)
    }
}
