//! Burn's layers on images `[B, H, W, C]`, by this project's operations.

use burn::module::Param;
use burn::nn::{GroupNorm, Linear, conv::Conv2d};
use burn::tensor::{Tensor, activation};
use ddpm_kernels::{ConvOptions, Images, Input, Norm, NormOptions, Terms};

/// The function between a norm and a convolution (`act_fn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x·σ(x), of every published DDPM; diffusers also calls it swish.
    Silu,
    /// x·tanh(ln(1 + eˣ)).
    Mish,
    /// x·Φ(x), Φ the normal distribution's.
    Gelu,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Silu, Self::Mish, Self::Gelu, Self::Relu];

    /// The function of every element.
    pub fn of<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Silu => activation::silu(x),
            Self::Mish => activation::mish(x),
            Self::Gelu => activation::gelu(x),
            Self::Relu => activation::relu(x),
        }
    }
}

/// What follows a group norm.
#[derive(Clone, Debug, Default)]
pub(crate) struct After {
    /// `[B, 2·C]`: y·(1 + scale) + shift, an image's scales first.
    pub(crate) scale_shift: Option<Tensor<2>>,
    /// Then this.
    pub(crate) activation: Option<Activation>,
    /// `[B, H, W, C]`: then this factor, dropout's.
    pub(crate) mask: Option<Tensor<4>>,
}

/// The norm of images, for a convolution to read, and what follows.
pub(crate) fn normed(norm: &GroupNorm, images: impl Into<Images>, after: After) -> Input {
    let After {
        scale_shift,
        activation,
        mask,
    } = after;
    let silu = activation == Some(Activation::Silu);
    // SiLU is part of the norm.
    let Some(activation) = activation.filter(|_| !silu) else {
        return images.into().normed(norm_of(norm, scale_shift, silu, mask));
    };
    let y = activation.of(ddpm_kernels::group_norm(
        images,
        norm_of(norm, scale_shift, false, None),
    ));
    match mask {
        Some(mask) => (y * mask).into(),
        None => y.into(),
    }
}

/// The norm of images.
pub(crate) fn group_norm(norm: &GroupNorm, images: Tensor<4>) -> Tensor<4> {
    ddpm_kernels::group_norm(images, norm_of(norm, None, false, None))
}

fn norm_of(
    norm: &GroupNorm,
    scale_shift: Option<Tensor<2>>,
    silu: bool,
    mask: Option<Tensor<4>>,
) -> Norm {
    let (Some(gamma), Some(beta)) = (&norm.gamma, &norm.beta) else {
        unreachable!("every group norm of this crate has weights")
    };
    Norm {
        weight: gamma.val(),
        bias: beta.val(),
        scale_shift,
        mask,
        options: NormOptions {
            groups: norm.num_groups,
            eps: norm.epsilon,
            silu,
        },
    }
}

/// A residual branch's output, scaled: y/factor.
pub(crate) fn rescaled(y: Tensor<4>, factor: f64) -> Tensor<4> {
    // Every block but the bottom's has the factor 1, which is not worth a pass over the image.
    if factor == 1.0 { y } else { y / factor }
}

/// A convolution of images, with what is added to it besides its bias.
pub(crate) fn conv(
    conv: &Conv2d,
    input: impl Into<Input>,
    shift: Option<Tensor<2>>,
    residual: Option<Tensor<4>>,
) -> Tensor<4> {
    conv_as(
        conv,
        input,
        shift,
        residual,
        ConvOptions::same(conv.kernel_size[0]),
    )
}

/// As [`conv`], with other options than those that keep the size.
pub(crate) fn conv_as(
    conv: &Conv2d,
    input: impl Into<Input>,
    shift: Option<Tensor<2>>,
    residual: Option<Tensor<4>>,
    options: ConvOptions,
) -> Tensor<4> {
    let terms = Terms {
        bias: conv.bias.as_ref().map(Param::val),
        shift,
        residual,
    };
    ddpm_kernels::conv(input, conv.weight.val(), terms, options)
}

/// A linear layer of every pixel's channels: a 1×1 convolution.
pub(crate) fn pixelwise(
    linear: &Linear,
    images: Tensor<4>,
    residual: Option<Tensor<4>>,
) -> Tensor<4> {
    let [input, output] = linear.weight.dims();
    let terms = Terms {
        bias: linear.bias.as_ref().map(Param::val),
        shift: None,
        residual,
    };
    let weight = linear
        .weight
        .val()
        .transpose()
        .reshape([output, input, 1, 1]);
    ddpm_kernels::conv(images, weight, terms, ConvOptions::same(1))
}
