//! `[model]`: the network.

use ddpm_model::{Activation, UNetConfig};
use serde::{Deserialize, Serialize};

use super::{one, yes};

/// `[model]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Model {
    /// The U-Net, for images.
    #[serde(rename = "unet")]
    UNet(UNet),
    /// The multilayer perceptron, for points.
    Mlp(Mlp),
}

/// The U-Net; fields as in [`UNetConfig`], but for the image's channels, which the data has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    missing_docs,
    clippy::struct_excessive_bools,
    reason = "as in UNetConfig"
)]
pub struct UNet {
    pub block_out_channels: Vec<usize>,
    pub attention: Vec<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_attention: Option<Vec<bool>>,
    #[serde(default = "yes")]
    pub mid_attention: bool,
    #[serde(default = "yes")]
    pub mid_attention_norm: bool,
    #[serde(default = "unit")]
    pub mid_block_scale_factor: f64,
    pub layers_per_block: usize,
    /// Width of an attention head; one head if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_head_dim: Option<usize>,
    #[serde(default = "silu", with = "ActivationName")]
    pub activation: Activation,
    #[serde(default)]
    pub dropout: f64,
    pub norm_num_groups: usize,
    #[serde(default = "norm_eps")]
    pub norm_eps: f64,
    #[serde(default = "one")]
    pub downsample_padding: usize,
    #[serde(default)]
    pub scale_shift: bool,
    #[serde(default)]
    pub center_input_sample: bool,
    #[serde(default)]
    pub flip_sin_to_cos: bool,
    #[serde(default = "unit")]
    pub freq_shift: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_classes: Option<usize>,
    #[serde(default = "yes")]
    pub null_class: bool,
}

/// The multilayer perceptron.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mlp {
    /// Width of the hidden layers.
    pub hidden: usize,
    /// Residual blocks.
    pub layers: usize,
}

/// The names of [`Activation`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Activation", rename_all = "kebab-case")]
enum ActivationName {
    Silu,
    Mish,
    Gelu,
    Relu,
}

impl UNet {
    /// The network for images of so many channels.
    pub fn config(&self, channels: usize) -> UNetConfig {
        let unet = self.clone();
        UNetConfig {
            in_channels: channels,
            out_channels: channels,
            block_out_channels: unet.block_out_channels,
            layers_per_block: unet.layers_per_block,
            attention: unet.attention,
            up_attention: unet.up_attention,
            mid_attention: unet.mid_attention,
            mid_attention_norm: unet.mid_attention_norm,
            mid_block_scale_factor: unet.mid_block_scale_factor,
            attention_head_dim: unet.attention_head_dim,
            activation: unet.activation,
            dropout: unet.dropout,
            norm_num_groups: unet.norm_num_groups,
            norm_eps: unet.norm_eps,
            downsample_padding: unet.downsample_padding,
            scale_shift: unet.scale_shift,
            center_input_sample: unet.center_input_sample,
            flip_sin_to_cos: unet.flip_sin_to_cos,
            freq_shift: unet.freq_shift,
            num_classes: unet.num_classes,
            null_class: unet.null_class,
        }
    }
}

impl From<UNetConfig> for UNet {
    fn from(config: UNetConfig) -> Self {
        Self {
            block_out_channels: config.block_out_channels,
            attention: config.attention,
            up_attention: config.up_attention,
            mid_attention: config.mid_attention,
            mid_attention_norm: config.mid_attention_norm,
            mid_block_scale_factor: config.mid_block_scale_factor,
            layers_per_block: config.layers_per_block,
            attention_head_dim: config.attention_head_dim,
            activation: config.activation,
            dropout: config.dropout,
            norm_num_groups: config.norm_num_groups,
            norm_eps: config.norm_eps,
            downsample_padding: config.downsample_padding,
            scale_shift: config.scale_shift,
            center_input_sample: config.center_input_sample,
            flip_sin_to_cos: config.flip_sin_to_cos,
            freq_shift: config.freq_shift,
            num_classes: config.num_classes,
            null_class: config.null_class,
        }
    }
}

fn silu() -> Activation {
    Activation::Silu
}

fn unit() -> f64 {
    1.0
}

fn norm_eps() -> f64 {
    1e-6
}
