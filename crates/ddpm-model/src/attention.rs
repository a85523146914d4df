//! Self-attention between the pixels of an image.

use burn::module::Module;
use burn::nn::{GroupNorm, Linear};
use burn::tensor::{Tensor, activation::softmax};

use crate::init::Init;
use crate::unet::UNetConfig;

/// softmax(QKᵀ/√d)·V over the H·W pixels, after a group norm and inside a residual connection.
#[derive(Module, Debug)]
pub struct Attention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    /// One linear layer; a list because PyTorch's layout names it `to_out.0`.
    to_out: Vec<Linear>,
    heads: usize,
}

impl Attention {
    pub(crate) fn new(init: &mut Init, config: &UNetConfig, channels: usize) -> Self {
        let width = config.attention_head_dim.unwrap_or(channels);
        Self {
            group_norm: init.group_norm(config.norm_num_groups, channels, config.norm_eps),
            to_q: init.linear(channels, channels),
            to_k: init.linear(channels, channels),
            to_v: init.linear(channels, channels),
            to_out: vec![init.zero_linear(channels, channels)],
            heads: channels / width,
        }
    }

    /// `[B, C, H, W]` → the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let (pixels, dim) = (height * width, channels / self.heads);

        let tokens: Tensor<3> = self
            .group_norm
            .forward(x.clone())
            .reshape([batch, channels, pixels])
            .swap_dims(1, 2);
        let heads = |linear: &Linear| -> Tensor<4> {
            linear
                .forward(tokens.clone())
                .reshape([batch, pixels, self.heads, dim])
                .swap_dims(1, 2)
        };
        let (q, k, v) = (heads(&self.to_q), heads(&self.to_k), heads(&self.to_v));

        let scores = q.matmul(k.swap_dims(2, 3)) / (dim as f64).sqrt();
        let mut y: Tensor<3> = softmax(scores, 3)
            .matmul(v)
            .swap_dims(1, 2)
            .reshape([batch, pixels, channels]);
        for linear in &self.to_out {
            y = linear.forward(y);
        }
        x + y.swap_dims(1, 2).reshape([batch, channels, height, width])
    }
}
