//! The U-Net of Ho et al. 2020.

use burn::module::Module;
use burn::nn::{Embedding, GroupNorm, conv::Conv2d};
use burn::tensor::{Device, Int, Tensor, activation::silu};

use crate::block::{DownBlock, MidBlock, UpBlock};
use crate::embedding::{TimeEmbedding, sinusoidal_embedding};
use crate::init::Init;
use crate::layer::{After, conv, group_norm};
use crate::{Masks, ModelError, positive};

/// What the published U-Nets vary. Names follow diffusers' `UNet2DModel`.
#[derive(Clone, Debug, PartialEq)]
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
    /// Whether the bottom attends.
    pub mid_attention: bool,
    /// Width of an attention head; `None` is one head of a level's full width.
    pub attention_head_dim: Option<usize>,
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
    /// Whether the cosines come first in the time features.
    pub flip_sin_to_cos: bool,
    /// Shift in the frequencies of the time features; see [`sinusoidal_embedding`].
    pub freq_shift: f64,
    /// Classes to condition on. The embedding has one row more, the null class `num_classes`,
    /// for classifier-free guidance.
    pub num_classes: Option<usize>,
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
            mid_attention: true,
            attention_head_dim: None,
            dropout: 0.1,
            norm_num_groups: 32,
            norm_eps: 1e-6,
            downsample_padding: 0,
            scale_shift: false,
            flip_sin_to_cos: false,
            freq_shift: 1.0,
            num_classes: None,
        }
    }

    /// Width of the time vector given to every block: four times the first level's channels.
    pub fn time_embed_dim(&self) -> usize {
        4 * self.block_out_channels[0]
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
        positive("in_channels", self.in_channels)?;
        positive("out_channels", self.out_channels)?;
        positive("block_out_channels' length", self.block_out_channels.len())?;
        positive("layers_per_block", self.layers_per_block)?;
        positive("norm_num_groups", self.norm_num_groups)?;
        let levels = self.block_out_channels.len();
        if self.attention.len() != levels {
            let got = self.attention.len();
            return Err(ModelError::Attention { got, levels });
        }
        for (level, &channels) in self.block_out_channels.iter().enumerate() {
            positive("an entry of block_out_channels", channels)?;
            let groups = self.norm_num_groups;
            if !channels.is_multiple_of(groups) {
                return Err(ModelError::Groups { channels, groups });
            }
            let attends = self.attention[level] || (self.mid_attention && level + 1 == levels);
            if let Some(width) = self.attention_head_dim.filter(|_| attends) {
                positive("attention_head_dim", width)?;
                if !channels.is_multiple_of(width) {
                    return Err(ModelError::Heads { channels, width });
                }
            }
        }
        self.check_ranges()
    }

    fn check_ranges(&self) -> Result<(), ModelError> {
        let half = self.block_out_channels[0] as f64 / 2.0;
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
                self.block_out_channels[0] as f64,
                self.block_out_channels[0].is_multiple_of(2),
                "the even numbers, which the time features need",
            ),
        ];
        for (name, value, valid, range) in ranges {
            if !valid {
                return Err(ModelError::Range { name, value, range });
            }
        }
        match self.num_classes {
            Some(classes) => positive("num_classes", classes),
            None => Ok(()),
        }
    }

    fn build(&self, init: &mut Init) -> UNet {
        let channels = &self.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let temb = self.time_embed_dim();

        let conv_in = init.conv(self.in_channels, first, 3);
        let time_embedding = TimeEmbedding::new(init, first, temb);
        let class_embedding = self.num_classes.map(|n| init.embedding(n + 1, temb));

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
    flip_sin_to_cos: bool,
    freq_shift: f64,
}

impl UNet {
    /// The network's output for images at given times.
    ///
    /// * `x`: `[B, in_channels, H, W]`, H and W divisible as
    ///   [`check_image_size`](UNetConfig::check_image_size) says;
    /// * `t`: `[B]`, what published checkpoints call the timestep, 0..T;
    /// * `class`: `[B]`, in 0..=`num_classes`, where `num_classes` is the null class; `None` for
    ///   a network without classes;
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
        let temb = silu(temb);
        let mut x = conv(&self.conv_in, x.permute([0, 2, 3, 1]), None, None);
        let mut skips = vec![x.clone()];
        for block in &self.down_blocks {
            x = block.forward(x, &temb, &mut skips, &mut masks);
        }
        x = self.mid_block.forward(x, &temb, &mut masks);
        for block in &self.up_blocks {
            x = block.forward(x, &temb, &mut skips, &mut masks);
        }
        let activated = After {
            silu: true,
            ..After::default()
        };
        let x = group_norm(&self.conv_norm_out, x, activated);
        conv(&self.conv_out, x, None, None).permute([0, 3, 1, 2])
    }
}
