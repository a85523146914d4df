//! The parts of the U-Net: residual blocks, and the levels made of them.

use burn::module::Module;
use burn::nn::{GroupNorm, Linear, conv::Conv2d};
use burn::tensor::Tensor;
use ddpm_kernels::Images;

use crate::attention::Attention;
use crate::config::UNetConfig;
use crate::init::Init;
use crate::layer::{Activation, After, conv, normed, rescaled};
use crate::network::Masks;
use crate::resample::{Downsample, Upsample};

/// GroupNorm, activation and convolution, twice. The time vector enters between the two, and a
/// shortcut adds the input to the output.
#[derive(Module, Debug)]
pub struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    /// A 1×1 convolution where the number of channels changes.
    conv_shortcut: Option<Conv2d>,
    #[module(skip)]
    activation: Activation,
    dropout: f64,
    scale_shift: bool,
    rescale: f64,
}

impl ResnetBlock {
    /// A block of a level.
    pub(crate) fn new(init: &mut Init, config: &UNetConfig, input: usize, output: usize) -> Self {
        let (groups, eps) = (config.norm_num_groups, config.norm_eps);
        let temb = if config.scale_shift {
            2 * output
        } else {
            output
        };
        Self {
            norm1: init.group_norm(groups, input, eps),
            conv1: init.conv(input, output, 3),
            time_emb_proj: init.linear(config.time_embed_dim(), temb),
            norm2: init.group_norm(groups, output, eps),
            conv2: init.zero_conv(output, output, 3),
            conv_shortcut: (input != output).then(|| init.conv(input, output, 1)),
            activation: config.activation,
            dropout: config.dropout,
            scale_shift: config.scale_shift,
            rescale: 1.0,
        }
    }

    /// A block of the mid block.
    pub(crate) fn mid(init: &mut Init, config: &UNetConfig, channels: usize) -> Self {
        Self {
            rescale: config.mid_block_scale_factor,
            ..Self::new(init, config, channels, channels)
        }
    }

    /// * `images`: `[B, H, W, input]`;
    /// * `temb`: `[B, time_embed_dim]`, the activated time vector;
    /// * returns `[B, H, W, output]`.
    ///
    /// # Panics
    ///
    /// If shapes disagree.
    pub fn forward(
        &self,
        images: impl Into<Images>,
        temb: Tensor<2>,
        masks: &mut Option<&mut Masks>,
    ) -> Tensor<4> {
        let images = images.into();
        let activation = Some(self.activation);
        let temb = Some(self.time_emb_proj.forward(temb));
        let (shift, scale_shift) = if self.scale_shift {
            (None, temb)
        } else {
            (temb, None)
        };
        let after = After {
            activation,
            ..After::default()
        };
        let h = normed(&self.norm1, images.clone(), after);
        let h = conv(&self.conv1, h, shift, None);
        let masks = masks.as_mut().filter(|_| self.dropout > 0.0);
        let after = After {
            scale_shift,
            activation,
            mask: masks.map(|masks| masks(self.dropout, h.dims())),
        };
        let h = normed(&self.norm2, h, after);
        let shortcut = match &self.conv_shortcut {
            Some(shortcut) => conv(shortcut, images, None, None),
            None => images.x,
        };
        rescaled(conv(&self.conv2, h, None, Some(shortcut)), self.rescale)
    }
}

/// A level on the way down: residual blocks, each followed by attention if the level has it. Every
/// level but the last then halves the image. All outputs are kept for the way up.
#[derive(Module, Debug)]
pub struct DownBlock {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Attention>,
    downsamplers: Vec<Downsample>,
}

impl DownBlock {
    pub(crate) fn new(init: &mut Init, config: &UNetConfig, level: usize, input: usize) -> Self {
        let output = config.block_out_channels[level];
        let layers = config.layers_per_block;
        let halves = level + 1 < config.block_out_channels.len();
        let attends = if config.attention[level] { layers } else { 0 };
        Self {
            resnets: (0..layers)
                .map(|i| {
                    let input = if i == 0 { input } else { output };
                    ResnetBlock::new(init, config, input, output)
                })
                .collect(),
            attentions: (0..attends)
                .map(|_| Attention::new(init, config, output))
                .collect(),
            downsamplers: (0..usize::from(halves))
                .map(|_| Downsample::new(init, output, config.downsample_padding))
                .collect(),
        }
    }

    /// Runs the level on `x`, `[B, H, W, C]`, and pushes the output of every block and of the halving
    /// onto `skips`.
    pub fn forward(
        &self,
        mut x: Tensor<4>,
        temb: &Tensor<2>,
        skips: &mut Vec<Tensor<4>>,
        masks: &mut Option<&mut Masks>,
    ) -> Tensor<4> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, temb.clone(), masks);
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x);
            }
            skips.push(x.clone());
        }
        for downsampler in &self.downsamplers {
            x = downsampler.forward(x);
            skips.push(x.clone());
        }
        x
    }
}

/// The mid block, on the smallest image: a residual block, attention if the network has it here, and
/// another residual block.
#[derive(Module, Debug)]
pub struct MidBlock {
    attentions: Vec<Attention>,
    resnets: Vec<ResnetBlock>,
}

impl MidBlock {
    pub(crate) fn new(init: &mut Init, config: &UNetConfig, channels: usize) -> Self {
        Self {
            attentions: (0..usize::from(config.mid_attention))
                .map(|_| Attention::mid(init, config, channels))
                .collect(),
            resnets: (0..2)
                .map(|_| ResnetBlock::mid(init, config, channels))
                .collect(),
        }
    }

    /// `[B, H, W, C]` → the same shape.
    pub fn forward(
        &self,
        mut x: Tensor<4>,
        temb: &Tensor<2>,
        masks: &mut Option<&mut Masks>,
    ) -> Tensor<4> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, temb.clone(), masks);
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x);
            }
        }
        x
    }
}

/// A level on the way up: one residual block more than on the way down. Each also reads one of the
/// outputs that the way down kept. Every level but the first then doubles the image.
#[derive(Module, Debug)]
pub struct UpBlock {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Attention>,
    upsamplers: Vec<Upsample>,
}

impl UpBlock {
    /// `skips`: the channels of the outputs that the way down kept, last first.
    pub(crate) fn new(
        init: &mut Init,
        config: &UNetConfig,
        level: usize,
        input: usize,
        skips: impl Iterator<Item = usize>,
    ) -> Self {
        let output = config.block_out_channels[level];
        let layers = config.layers_per_block + 1;
        let attends = if config.up_attention()[level] {
            layers
        } else {
            0
        };
        let doubles = level > 0;
        Self {
            resnets: skips
                .take(layers)
                .enumerate()
                .map(|(i, skip)| {
                    let input = if i == 0 { input } else { output };
                    ResnetBlock::new(init, config, input + skip, output)
                })
                .collect(),
            attentions: (0..attends)
                .map(|_| Attention::new(init, config, output))
                .collect(),
            upsamplers: (0..usize::from(doubles))
                .map(|_| Upsample::new(init, output))
                .collect(),
        }
    }

    /// Runs the level on `x`, `[B, H, W, C]`, and pops one output per residual block from `skips`.
    ///
    /// # Panics
    ///
    /// If `skips` has fewer outputs than the level has blocks, or shapes disagree.
    pub fn forward(
        &self,
        mut x: Tensor<4>,
        temb: &Tensor<2>,
        skips: &mut Vec<Tensor<4>>,
        masks: &mut Option<&mut Masks>,
    ) -> Tensor<4> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            let skip = skips.pop().expect("the way down kept one output per block");
            let images = Images {
                x,
                skip: Some(skip),
            };
            x = resnet.forward(images, temb.clone(), masks);
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x);
            }
        }
        for upsampler in &self.upsamplers {
            x = upsampler.forward(x);
        }
        x
    }
}
