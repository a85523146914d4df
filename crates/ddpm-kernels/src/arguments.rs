//! The arguments of the operations.

use burn::tensor::Tensor;

/// How a convolution moves over its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Pixels of the (upsampled) input from one output to the next, at least 1.
    pub stride: usize,
    /// Zeros before and after the rows, before and after the columns.
    pub padding: [[usize; 2]; 2],
    /// The factor of nearest upsampling before the convolution; 1 for none.
    pub upsample: usize,
}

impl ConvOptions {
    /// Stride 1 and the padding that keeps the size, for an odd `kernel`.
    pub fn same(kernel: usize) -> Self {
        Self {
            stride: 1,
            padding: [[kernel / 2; 2]; 2],
            upsample: 1,
        }
    }
}

/// The terms that are added to a convolution.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// One number per channel, `[O]`.
    pub bias: Option<Tensor<1>>,
    /// One number per image and channel, `[B, O]`: the time embedding.
    pub shift: Option<Tensor<2>>,
    /// An image of the output's shape: the residual connection.
    pub residual: Option<Tensor<4>>,
}

/// The settings of a group norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormOptions {
    /// Groups, G, a divisor of the number of channels.
    pub groups: usize,
    /// ε, added to the variance.
    pub eps: f64,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// GroupNorm (Wu & He 2018); then y·(1 + scale) + shift (Dhariwal & Nichol 2021) if these are given;
/// then SiLU if the options say so; then the product with the mask if there is one.
#[derive(Clone, Debug)]
pub struct Norm {
    /// `[C]`.
    pub weight: Tensor<1>,
    /// `[C]`.
    pub bias: Tensor<1>,
    /// `[B, 2·C]`: for each image the scales, then the shifts.
    pub scale_shift: Option<Tensor<2>>,
    /// `[B, H, W, C]`, the dropout mask, which gets no gradient.
    pub mask: Option<Tensor<4>>,
    /// The settings.
    pub options: NormOptions,
}

/// Images `[B, H, W, C]`, or two tensors side by side in channels: a skip connection without
/// concatenation.
#[derive(Clone, Debug)]
pub struct Images {
    /// The first channels.
    pub x: Tensor<4>,
    /// The other channels.
    pub skip: Option<Tensor<4>>,
}

impl From<Tensor<4>> for Images {
    fn from(x: Tensor<4>) -> Self {
        Self { x, skip: None }
    }
}

impl Images {
    /// The norm of these images, as the input of a convolution. It is not kept between the forward and
    /// the backward pass but computed again, at the cost of one pass over the images.
    pub fn normed(self, norm: Norm) -> Input {
        Input {
            images: self,
            norm: Some(norm),
        }
    }
}

/// The input of a convolution: images, or their norm.
#[derive(Clone, Debug)]
pub struct Input {
    /// The images.
    pub images: Images,
    /// The norm that is applied to them first.
    pub norm: Option<Norm>,
}

impl<T: Into<Images>> From<T> for Input {
    fn from(images: T) -> Self {
        Self {
            images: images.into(),
            norm: None,
        }
    }
}
