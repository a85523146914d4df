//! The shape of a U-Net: what its user chooses. The channels of its images come from the data.

use serde::{Deserialize, Serialize};

use crate::error::{ModelError, count};
use crate::layer::Activation;

/// The shape of a [`UNet`](crate::UNet). Names follow diffusers' `UNet2DModel`.
///
/// As serde reads it, four fields are required: `block_out_channels`, `layers_per_block`,
/// `attention` and `norm_num_groups`. An unknown field is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "they are independent switches, and diffusers' configuration has them"
)]
pub struct UNetConfig {
    /// Channels of each level, finest first.
    pub block_out_channels: Vec<usize>,
    /// Whether each level has attention, finest first.
    pub attention: Vec<bool>,
    /// The same on the way up, finest first; `None` if it is as on the way down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_attention: Option<Vec<bool>>,
    /// Whether the mid block has attention (`add_attention`).
    #[serde(default = "yes")]
    pub mid_attention: bool,
    /// Whether a group norm precedes the mid block's attention. Only diffusers omits it, where
    /// `resnet_time_scale_shift` is "scale_shift" and `attn_norm_num_groups` is absent.
    #[serde(default = "yes")]
    pub mid_attention_norm: bool,
    /// The outputs of the mid block's parts are divided by this number.
    #[serde(default = "one")]
    pub mid_block_scale_factor: f64,
    /// Residual blocks per level on the way down; the way up has one more.
    pub layers_per_block: usize,
    /// Width of an attention head; `None` is one head of a level's full width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_head_dim: Option<usize>,
    /// The activation function of the residual blocks (`act_fn`). The time embedding and the last
    /// layer use SiLU.
    #[serde(default)]
    pub activation: Activation,
    /// Probability of dropping an activation in a residual block, in [0, 1).
    #[serde(default)]
    pub dropout: f64,
    /// Groups of every group norm; must divide every level's channels.
    pub norm_num_groups: usize,
    /// Added to the variance in every group norm.
    #[serde(default = "norm_eps")]
    pub norm_eps: f64,
    /// Padding of the halving convolutions: 1 pads every side, 0 only right and below.
    #[serde(default = "one_pixel")]
    pub downsample_padding: usize,
    /// Whether time scales and shifts the output of the second norm (`resnet_time_scale_shift`).
    /// Otherwise it is added before that norm.
    #[serde(default)]
    pub scale_shift: bool,
    /// Whether the network sees 2x − 1 in place of x.
    #[serde(default)]
    pub center_input_sample: bool,
    /// Whether the cosines come first in the time features.
    #[serde(default)]
    pub flip_sin_to_cos: bool,
    /// Shift in the frequencies of the time features; see
    /// [`sinusoidal_embedding`](crate::sinusoidal_embedding).
    #[serde(default = "one")]
    pub freq_shift: f64,
    /// Number of classes, without the null class; `None` for a network without classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_classes: Option<usize>,
    /// Whether the class embedding has one more row, the null class `num_classes`, for
    /// classifier-free guidance.
    #[serde(default = "yes")]
    pub null_class: bool,
}

impl UNetConfig {
    /// The CIFAR-10 network of Ho et al. 2020, as the published checkpoint configures it:
    /// 35,746,307 parameters for images of three channels.
    pub fn cifar10() -> Self {
        Self {
            block_out_channels: vec![128, 256, 256, 256],
            attention: vec![false, true, false, false],
            up_attention: None,
            mid_attention: true,
            mid_attention_norm: true,
            mid_block_scale_factor: 1.0,
            layers_per_block: 2,
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

    /// Length of the time vector that every block is given: four times the first level's channels.
    pub fn time_embed_dim(&self) -> usize {
        4 * self.block_out_channels[0]
    }

    /// Whether each level has attention on the way up, finest first.
    pub fn up_attention(&self) -> &[bool] {
        self.up_attention.as_ref().unwrap_or(&self.attention)
    }

    /// Whether there is any attention: in a level on the way down or up, or in the mid block.
    pub fn attends(&self) -> bool {
        let levels = self.attention.iter().chain(self.up_attention());
        self.mid_attention || levels.into_iter().any(|&attends| attends)
    }

    /// Number of residual blocks of the whole network.
    pub fn residual_blocks(&self) -> usize {
        self.block_out_channels.len() * (2 * self.layers_per_block + 1) + 2
    }

    /// The class that stands for none, for classifier-free guidance.
    pub fn null_class(&self) -> Option<usize> {
        self.num_classes.filter(|_| self.null_class)
    }

    /// Rows of the class embedding: the classes, and the null class if there is one.
    pub fn class_rows(&self) -> Option<usize> {
        self.num_classes.map(|n| n + usize::from(self.null_class))
    }

    /// Checks that images of this size pass through: every level but the last halves them.
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

    /// Checks the channels of a network's input and output.
    ///
    /// # Errors
    ///
    /// If one of them is zero, or larger than that of any network.
    pub fn check_channels([input, output]: [usize; 2]) -> Result<(), ModelError> {
        count("in_channels", input)?;
        count("out_channels", output)
    }

    /// Checks that a network of this shape can be built.
    ///
    /// # Errors
    ///
    /// If a count is zero, groups or heads do not divide the channels, or a number is out of its
    /// range; the message names the field and the numbers.
    pub fn check(&self) -> Result<(), ModelError> {
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
        for level in 0..levels {
            self.check_level(level)?;
        }
        self.check_ranges()
    }

    fn check_level(&self, level: usize) -> Result<(), ModelError> {
        let channels = self.block_out_channels[level];
        count("an entry of block_out_channels", channels)?;
        let groups = self.norm_num_groups;
        if !channels.is_multiple_of(groups) {
            return Err(ModelError::Groups { channels, groups });
        }
        let is_last = level + 1 == self.block_out_channels.len();
        let attends =
            self.attention[level] || self.up_attention()[level] || (self.mid_attention && is_last);
        if let Some(width) = self.attention_head_dim.filter(|_| attends) {
            count("attention_head_dim", width)?;
            if !channels.is_multiple_of(width) {
                return Err(ModelError::Heads { channels, width });
            }
        }
        Ok(())
    }

    /// The table of ranges. Comparisons are written so that NaN fails them.
    fn check_ranges(&self) -> Result<(), ModelError> {
        let first = self.block_out_channels[0];
        let half = first as f64 / 2.0;
        let factor = self.mid_block_scale_factor;
        let even = "the even numbers, which the time features need";
        let shift = "[0, half the first level's channels)";
        #[rustfmt::skip]
        let ranges = [
            ("dropout", self.dropout, (0.0..1.0).contains(&self.dropout), "[0, 1)"),
            ("norm_eps", self.norm_eps, self.norm_eps > 0.0 && self.norm_eps < 1.0, "(0, 1)"),
            ("mid_block_scale_factor", factor, factor > 0.0 && factor.is_finite(), "the positive numbers"),
            ("downsample_padding", self.downsample_padding as f64, self.downsample_padding <= 1, "{0, 1}"),
            ("freq_shift", self.freq_shift, (0.0..half).contains(&self.freq_shift), shift),
            ("block_out_channels[0]", first as f64, first.is_multiple_of(2), even),
        ];
        for (name, value, valid, range) in ranges {
            if !valid {
                return Err(ModelError::Range { name, value, range });
            }
        }
        Ok(())
    }
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

fn one_pixel() -> usize {
    1
}

fn norm_eps() -> f64 {
    1e-6
}
