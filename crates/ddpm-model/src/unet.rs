//! The U-Net of Ho et al. 2020.

use burn::module::Module;
use burn::nn::{Embedding, GroupNorm, conv::Conv2d};
use burn::tensor::{Device, Int, Tensor};

use crate::block::{DownBlock, MidBlock, UpBlock};
use crate::embedding::{TimeEmbedding, sinusoidal_embedding};
use crate::init::Init;
use crate::layer::{Activation, After, conv, normed};
use crate::{Masks, ModelError, count};

/// What the published U-Nets vary. Names follow diffusers' `UNet2DModel`.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "they are independent switches, and diffusers' configuration has them"
)]
pub struct UNetConfig {
    /// Channels of the image.
    pub in_channels: usize,
    /// Channels of the output; those of the image unless the variance is predicted too.
    pub out_channels: usize,
    /// Channels of each level, finest first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks per level on the way down; the way up has one more.
    pub layers_per_block: usize,
    /// Whether each level attends, finest first.
    pub attention: Vec<bool>,
    /// Whether each level attends on the way up, finest first, where that differs.
    pub up_attention: Option<Vec<bool>>,
    /// Whether the bottom attends (`add_attention`).
    pub mid_attention: bool,
    /// Whether a group norm comes before the bottom's attention. diffusers leaves it out where
    /// `resnet_time_scale_shift` is "scale_shift" and `attn_norm_num_groups` is absent; nobody else
    /// does.
    pub mid_attention_norm: bool,
    /// What the outputs of the bottom's blocks are divided by.
    pub mid_block_scale_factor: f64,
    /// Width of an attention head; `None` is one head of a level's full width.
    pub attention_head_dim: Option<usize>,
    /// The residual blocks' function (`act_fn`); the time embedding and the last layer keep SiLU.
    pub activation: Activation,
    /// Probability of dropping an activation in a residual block, in [0, 1).
    pub dropout: f64,
    /// Groups of every group norm; must divide every level's channels.
    pub norm_num_groups: usize,
    /// Added to the variance in every group norm.
    pub norm_eps: f64,
    /// Padding of the halving convolutions: 1 on every side, or 0 for right and below only.
    pub downsample_padding: usize,
    /// Whether time scales and shifts the second norm (`resnet_time_scale_shift`) instead of
    /// being added before it.
    pub scale_shift: bool,
    /// Whether the network sees 2x − 1 in place of x.
    pub center_input_sample: bool,
    /// Whether the cosines come first in the time features.
    pub flip_sin_to_cos: bool,
    /// Shift in the frequencies of the time features; see [`sinusoidal_embedding`].
    pub freq_shift: f64,
    /// Classes to condition on.
    pub num_classes: Option<usize>,
    /// Whether the class embedding has one row more, the null class `num_classes`, for
    /// classifier-free guidance.
    pub null_class: bool,
}

impl UNetConfig {
    /// The CIFAR-10 network of Ho et al. 2020: 35,746,307 parameters, and the configuration of
    /// the published checkpoint.
    pub fn cifar10() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            block_out_channels: vec![128, 256, 256, 256],
            layers_per_block: 2,
            attention: vec![false, true, false, false],
            up_attention: None,
            mid_attention: true,
            mid_attention_norm: true,
            mid_block_scale_factor: 1.0,
            attention_head_dim: None,
            activation: Activation::Silu,
            dropout: 0.1,
            norm_num_groups: 32,
            norm_eps: 1e-6,
            downsample_padding: 0,
            scale_shift: false,
            center_input_sample: false,
            flip_sin_to_cos: false,
            freq_shift: 1.0,
            num_classes: None,
            null_class: true,
        }
    }

    /// Width of the time vector given to every block: four times the first level's channels.
    pub fn time_embed_dim(&self) -> usize {
        4 * self.block_out_channels[0]
    }

    /// Whether each level attends on the way up, finest first.
    pub fn up_attention(&self) -> &[bool] {
        self.up_attention.as_ref().unwrap_or(&self.attention)
    }

    /// Whether anything attends: a level on the way down or up, or the bottom.
    pub fn attends(&self) -> bool {
        let levels = self.attention.iter().chain(self.up_attention());
        self.mid_attention || levels.into_iter().any(|&attends| attends)
    }

    /// Residual blocks of the whole network.
    pub fn residual_blocks(&self) -> usize {
        self.block_out_channels.len() * (2 * self.layers_per_block + 1) + 2
    }

    /// The class that means none, for classifier-free guidance.
    pub fn null_class(&self) -> Option<usize> {
        self.num_classes.filter(|_| self.null_class)
    }

    /// Rows of the class embedding: the classes, and the null class if there is one.
    pub fn class_rows(&self) -> Option<usize> {
        self.num_classes.map(|n| n + usize::from(self.null_class))
    }

    /// Builds the network with weights drawn from `seed`, the same on every device.
    ///
    /// # Errors
    ///
    /// If a count is zero, groups or heads do not divide the channels, or a number is out of its
    /// range; the message names the field and the numbers.
    pub fn init(&self, seed: u64, device: &Device) -> Result<UNet, ModelError> {
        self.check()?;
        Ok(self.build(&mut Init::new(seed, device)))
    }

    /// Whether images of this size pass through: every level but the last halves them.
    ///
    /// # Errors
    ///
    /// If height or width cannot be halved that often.
    pub fn check_image_size(&self, height: usize, width: usize) -> Result<(), ModelError> {
        let halvings = self.block_out_channels.len().saturating_sub(1);
        let halves = |n: usize| n.trailing_zeros() as usize >= halvings && n > 0;
        if halves(height) && halves(width) {
            return Ok(());
        }
        Err(ModelError::ImageSize {
            height,
            width,
            halvings,
        })
    }

    /// Whether a network of this shape can be built.
    ///
    /// # Errors
    ///
    /// As [`init`](Self::init).
    pub fn check(&self) -> Result<(), ModelError> {
        count("in_channels", self.in_channels)?;
        count("out_channels", self.out_channels)?;
        count("block_out_channels' length", self.block_out_channels.len())?;
        count("layers_per_block", self.layers_per_block)?;
        count("norm_num_groups", self.norm_num_groups)?;
        count("num_classes", self.num_classes.unwrap_or(1))?;
        let levels = self.block_out_channels.len();
        for got in [self.attention.len(), self.up_attention().len()] {
            if got != levels {
                return Err(ModelError::Attention { got, levels });
            }
        }
        if !(self.mid_attention_norm || self.scale_shift) {
            return Err(ModelError::MidNorm);
        }
        for (level, &channels) in self.block_out_channels.iter().enumerate() {
            count("an entry of block_out_channels", channels)?;
            let groups = self.norm_num_groups;
            if !channels.is_multiple_of(groups) {
                return Err(ModelError::Groups { channels, groups });
            }
            let attends = self.attention[level]
                || self.up_attention()[level]
                || (self.mid_attention && level + 1 == levels);
            if let Some(width) = self.attention_head_dim.filter(|_| attends) {
                count("attention_head_dim", width)?;
                if !channels.is_multiple_of(width) {
                    return Err(ModelError::Heads { channels, width });
                }
            }
        }
        self.check_ranges()
    }

    /// The table of ranges. Comparisons are written so that NaN fails them.
    fn check_ranges(&self) -> Result<(), ModelError> {
        let first = self.block_out_channels[0];
        let half = first as f64 / 2.0;
        let ranges = [
            (
                "dropout",
                self.dropout,
                (0.0..1.0).contains(&self.dropout),
                "[0, 1)",
            ),
            (
                "norm_eps",
                self.norm_eps,
                self.norm_eps > 0.0 && self.norm_eps < 1.0,
                "(0, 1)",
            ),
            (
                "mid_block_scale_factor",
                self.mid_block_scale_factor,
                self.mid_block_scale_factor > 0.0 && self.mid_block_scale_factor.is_finite(),
                "the positive numbers",
            ),
            (
                "downsample_padding",
                self.downsample_padding as f64,
                self.downsample_padding <= 1,
                "{0, 1}",
            ),
            (
                "freq_shift",
                self.freq_shift,
                (0.0..half).contains(&self.freq_shift),
                "[0, half the first level's channels)",
            ),
            (
                "block_out_channels[0]",
                first as f64,
                first.is_multiple_of(2),
                "the even numbers, which the time features need",
            ),
        ];
        for (name, value, valid, range) in ranges {
            if !valid {
                return Err(ModelError::Range { name, value, range });
            }
        }
        Ok(())
    }

    fn build(&self, init: &mut Init) -> UNet {
        let channels = &self.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let temb = self.time_embed_dim();

        let conv_in = init.conv(self.in_channels, first, 3);
        let time_embedding = TimeEmbedding::new(init, first, temb);
        let class_embedding = self.class_rows().map(|n| init.embedding(n, temb));

        let mut x = first;
        let mut skips = vec![first];
        let mut down_blocks = Vec::new();
        for (level, &output) in channels.iter().enumerate() {
            down_blocks.push(DownBlock::new(init, self, level, x));
            let halving = usize::from(level + 1 < channels.len());
            skips.extend(std::iter::repeat_n(output, self.layers_per_block + halving));
            x = output;
        }
        let mid_block = MidBlock::new(init, self, last);
        let mut skips = skips.into_iter().rev();
        let mut up_blocks = Vec::new();
        for level in (0..channels.len()).rev() {
            up_blocks.push(UpBlock::new(init, self, level, x, skips.by_ref()));
            x = channels[level];
        }

        UNet {
            conv_in,
            time_embedding,
            class_embedding,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: init.group_norm(self.norm_num_groups, first, self.norm_eps),
            conv_out: init.zero_conv(first, self.out_channels, 3),
            activation: self.activation,
            center_input_sample: self.center_input_sample,
            flip_sin_to_cos: self.flip_sin_to_cos,
            freq_shift: self.freq_shift,
        }
    }
}

/// The U-Net; made by [`UNetConfig::init`].
#[derive(Module, Debug)]
pub struct UNet {
    conv_in: Conv2d,
    time_embedding: TimeEmbedding,
    class_embedding: Option<Embedding>,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    #[module(skip)]
    activation: Activation,
    center_input_sample: bool,
    flip_sin_to_cos: bool,
    freq_shift: f64,
}

impl UNet {
    /// The network's output for images at given times.
    ///
    /// * `x`: `[B, in_channels, H, W]`, H and W divisible as
    ///   [`check_image_size`](UNetConfig::check_image_size) says;
    /// * `t`: `[B]`, what published checkpoints call the timestep, 0..T;
    /// * `class`: `[B]`, rows of the class embedding, the last of which is the null class if there
    ///   is one; `None` for a network without classes;
    /// * `masks`: where dropout masks come from, `None` in evaluation;
    /// * returns `[B, out_channels, H, W]`.
    ///
    /// # Panics
    ///
    /// If shapes disagree, or a class is given to a network without classes or the reverse.
    pub fn forward(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        class: Option<Tensor<1, Int>>,
        mut masks: Option<&mut Masks>,
    ) -> Tensor<4> {
        let dim = self.conv_in.weight.dims()[0];
        let features = sinusoidal_embedding(t, dim, self.flip_sin_to_cos, self.freq_shift);
        let mut temb = self.time_embedding.forward(features);
        match (&self.class_embedding, class) {
            (Some(embedding), Some(class)) => {
                let class = embedding.forward(class.unsqueeze_dim::<2>(1));
                temb = temb + class.squeeze_dim::<2>(1);
            }
            (None, None) => {}
            (Some(_), None) => panic!("the network is conditional; give it a class"),
            (None, Some(_)) => panic!("the network knows no classes"),
        }

        // The blocks take the activated time vector and images with their channels last.
        let temb = self.activation.of(temb);
        let x = x.permute([0, 2, 3, 1]);
        let x = if self.center_input_sample {
            x * 2.0 - 1.0
        } else {
            x
        };
        let mut x = conv(&self.conv_in, x, None, None);
        let mut skips = vec![x.clone()];
        for block in &self.down_blocks {
            x = block.forward(x, &temb, &mut skips, &mut masks);
        }
        x = self.mid_block.forward(x, &temb, &mut masks);
        for block in &self.up_blocks {
            x = block.forward(x, &temb, &mut skips, &mut masks);
        }
        let activated = After {
            activation: Some(Activation::Silu),
            ..After::default()
        };
        let x = normed(&self.conv_norm_out, x, activated);
        conv(&self.conv_out, x, None, None).permute([0, 3, 1, 2])
    }
}
