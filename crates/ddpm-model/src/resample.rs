//! Halving and doubling an image.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use ddpm_kernels::ConvOptions;

use crate::init::Init;
use crate::layer::conv_as;

/// A 3×3 convolution of stride 2: `[B, H, W, C]` → `[B, H/2, W/2, C]` for even H and W.
#[derive(Module, Debug)]
pub struct Downsample {
    conv: Conv2d,
    padding: usize,
}

impl Downsample {
    /// `padding` 1 pads every side by one pixel. 0 pads only right and below, as TensorFlow's SAME
    /// does; the checkpoints of Ho et al. need it.
    pub(crate) fn new(init: &mut Init, channels: usize, padding: usize) -> Self {
        Self {
            conv: init.conv(channels, channels, 3),
            padding,
        }
    }

    /// Halves the image. `x`: `[B, H, W, C]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let halving = ConvOptions {
            stride: 2,
            padding: [[self.padding, 1]; 2],
            upsample: 1,
        };
        conv_as(&self.conv, x, None, None, halving)
    }
}

/// Nearest-neighbour doubling and a 3×3 convolution: `[B, H, W, C]` → `[B, 2H, 2W, C]`.
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

    /// Doubles the image. `x`: `[B, H, W, C]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let doubling = ConvOptions {
            upsample: 2,
            ..ConvOptions::same(3)
        };
        conv_as(&self.conv, x, None, None, doubling)
    }
}
