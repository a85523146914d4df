//! Halving and doubling an image.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};

use crate::init::Init;

/// A 3×3 convolution of stride 2: `[B, C, H, W]` → `[B, C, H/2, W/2]` for even H and W.
#[derive(Module, Debug)]
pub struct Downsample {
    conv: Conv2d,
}

impl Downsample {
    /// `padding` 1 pads every side by one pixel; 0 pads only right and below, as TensorFlow's
    /// SAME does and the checkpoints of Ho et al. expect.
    pub(crate) fn new(init: &mut Init, channels: usize, padding: usize) -> Self {
        let mut conv = init.conv(channels, channels, 3);
        conv.stride = [2, 2];
        conv.padding = PaddingConfig2d::Explicit(padding, padding, 1, 1);
        Self { conv }
    }

    /// Halves the image.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv.forward(x)
    }
}

/// Nearest-neighbour doubling and a 3×3 convolution: `[B, C, H, W]` → `[B, C, 2H, 2W]`.
#[derive(Module, Debug)]
pub struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub(crate) fn new(init: &mut Init, channels: usize) -> Self {
        Self {
            conv: init.conv(channels, channels, 3),
        }
    }

    /// Doubles the image.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let double =
            InterpolateOptions::new(InterpolateMode::Nearest).with_scale_factor([2.0, 2.0]);
        self.conv.forward(interpolate(x, double))
    }
}
