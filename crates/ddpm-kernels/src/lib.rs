//! The operations of the DDPM U-Net, forward and backward, on images `[batch, height, width,
//! channels]`.
//!
//! On the CPU backends Flex and NdArray they are this crate's own kernels ([`cpu`]), with the
//! instruction set chosen at run time and results that do not depend on the number of threads. On
//! every other backend the same functions are made of Burn's own operations, so that a network is
//! written once.
//!
//! The features `flex` and `ndarray` say for which backends the kernels are compiled; `allocator`
//! adds an allocator for programs that train.
#![doc = ""]
#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(any(feature = "flex", feature = "ndarray")),
    allow(
        dead_code,
        unused_variables,
        reason = "the kernels are for these backends"
    )
)]

#[cfg(feature = "allocator")]
pub mod allocator;
mod autodiff;
mod composite;
pub mod cpu;
mod descent;
mod host;
mod inputs;
mod kept;
mod operands;
pub mod ops;
mod switches;

use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::{Device, Tensor};

pub use crate::cpu::Precision;
pub use crate::cpu::adamw::AdamW;
pub use crate::descent::{Parameter, adamw};
pub use crate::kept::{PackedWeights, keep_packed_weights};
pub use crate::switches::{Autocast, autocast, enable};

use crate::cpu::conv::Conv;
use crate::ops::{KernelOps, Present};
use crate::switches::Switches;

/// How a convolution moves over its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Pixels of the (upsampled) input from one output to the next, at least 1.
    pub stride: usize,
    /// Zeros before and after the rows, before and after the columns.
    pub padding: [[usize; 2]; 2],
    /// How often nearest upsampling repeats each row and column of the input; 1: none.
    pub upsample: usize,
}

impl ConvOptions {
    /// Stride 1 and as many zeros around as keep the size, for an odd `kernel`.
    pub fn same(kernel: usize) -> Self {
        Self {
            stride: 1,
            padding: [[kernel / 2; 2]; 2],
            upsample: 1,
        }
    }
}

/// What is added to a convolution.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// One number a channel, `[O]`.
    pub bias: Option<Tensor<1>>,
    /// One number a channel and image, `[B, O]`: the time embedding.
    pub shift: Option<Tensor<2>>,
    /// An image of the output's shape: the residual connection.
    pub residual: Option<Tensor<4>>,
}

/// What a group norm is, but for its tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormOptions {
    /// Groups, G, which divide the channels.
    pub groups: usize,
    /// ε, added to the variance.
    pub eps: f64,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// GroupNorm (Wu & He 2018), then y·(1 + scale) + shift (Dhariwal & Nichol 2021) if these are given,
/// then SiLU if the options say so, then the mask if there is one.
#[derive(Clone, Debug)]
pub struct Norm {
    /// `[C]`.
    pub weight: Tensor<1>,
    /// `[C]`.
    pub bias: Tensor<1>,
    /// `[B, 2·C]`, an image's scales before its shifts.
    pub scale_shift: Option<Tensor<2>>,
    /// `[B, H, W, C]`, dropout's: the last factor. It is given no gradient.
    pub mask: Option<Tensor<4>>,
    /// The rest.
    pub options: NormOptions,
}

/// Images `[B, H, W, C]`, or two of them side by side in channels: a skip connection, which need
/// not be concatenated.
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
    /// The norm of these images, for a convolution to read. It is not kept between the forward and
    /// the backward pass but made again, at the cost of one pass over the images.
    pub fn normed(self, norm: Norm) -> Input {
        Input {
            images: self,
            norm: Some(norm),
        }
    }
}

/// What a convolution reads: images, or their norm.
#[derive(Clone, Debug)]
pub struct Input {
    /// The images.
    pub images: Images,
    /// What is done to them first.
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

/// Whether a device computes in a precision as fast as in f32 or faster: in bf16 one with kernels,
/// [`enable`]d, on a processor with AVX512-BF16.
pub fn is_fast(precision: Precision, device: &Device) -> bool {
    let bf16 = || cpu::Isa::detect() == cpu::Isa::Avx512Bf16;
    precision == Precision::F32 || switches::current().enabled && serves(device) && bf16()
}

/// Whether this build has kernels for a device, with autodiff or without.
pub fn serves(device: &Device) -> bool {
    match device.clone().without_autodiff().as_dispatch() {
        #[cfg(feature = "flex")]
        burn::backend::DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        burn::backend::DispatchDevice::NdArray(_) => true,
        #[allow(unreachable_patterns, reason = "the two may be all there are")]
        _ => false,
    }
}

/// The tensor, or in its place the one that stands for an absent input.
fn or<const D: usize>(tensor: Option<Tensor<D>>, absent: &DispatchTensor) -> DispatchTensor {
    tensor.map_or_else(|| absent.clone(), Tensor::into_dispatch)
}

/// y = conv(x, skip) + bias + shift + residual.
///
/// * `input`: `[B, H, W, I]` in all, or their norm;
/// * `weight`: `[O, I, kernel height, kernel width]`, PyTorch's layout;
/// * returns `[B, H', W', O]`.
///
/// # Panics
///
/// If shapes or types disagree, a size is zero, the groups of a norm do not divide the channels, or the
/// kernel is larger than the padded image.
pub fn conv(
    input: impl Into<Input>,
    weight: Tensor<4>,
    terms: Terms,
    options: ConvOptions,
) -> Tensor<4> {
    let input = input.into();
    let conv = operands::conv(&input, &weight, &terms, options);
    let switches = switches::apart();
    if switches.cover(&input.images.x) {
        return conv_by_kernels(input, weight, terms, conv, &switches);
    }
    let Input { images, norm } = input;
    let images = match norm {
        Some(norm) => composite::group_norm(images, norm).into(),
        None => images,
    };
    composite::conv(images, weight, terms, options)
}

fn conv_by_kernels(
    Input { images, norm }: Input,
    weight: Tensor<4>,
    terms: Terms,
    conv: Conv,
    switches: &Switches,
) -> Tensor<4> {
    let of_norm = |has: fn(&Norm) -> bool| norm.as_ref().is_some_and(has);
    let present = Present {
        skip: images.skip.is_some(),
        scale_shift: of_norm(|norm| norm.scale_shift.is_some()),
        mask: of_norm(|norm| norm.mask.is_some()),
        bias: terms.bias.is_some(),
        shift: terms.shift.is_some(),
        residual: terms.residual.is_some(),
    };
    let norm_options = norm.as_ref().map(|norm| norm.options);
    let x = images.x.into_dispatch();
    let (norm_weight, norm_bias, scale_shift, mask) = match norm {
        Some(norm) => (
            Some(norm.weight),
            Some(norm.bias),
            norm.scale_shift,
            norm.mask,
        ),
        None => (None, None, None, None),
    };
    Tensor::from_dispatch(<Dispatch as KernelOps>::conv(
        x.clone(),
        or(images.skip, &x),
        or(norm_weight, &x),
        or(norm_bias, &x),
        or(scale_shift, &x),
        or(mask, &x),
        weight.into_dispatch(),
        or(terms.bias, &x),
        or(terms.shift, &x),
        or(terms.residual, &x),
        present,
        norm_options,
        conv,
        switches.clone(),
    ))
}

/// The [`Norm`] of (x, skip).
///
/// * `images`: `[B, H, W, C]` in all; a group may have channels of both;
/// * returns `[B, H, W, C]`.
///
/// # Panics
///
/// If shapes or types disagree, or the groups do not divide the channels.
pub fn group_norm(images: impl Into<Images>, norm: Norm) -> Tensor<4> {
    let images = images.into();
    operands::group_norm(&images, &norm);
    let switches = switches::apart();
    if !switches.cover(&images.x) {
        return composite::group_norm(images, norm);
    }
    let present = Present {
        skip: images.skip.is_some(),
        scale_shift: norm.scale_shift.is_some(),
        mask: norm.mask.is_some(),
        ..Present::default()
    };
    let x = images.x.into_dispatch();
    Tensor::from_dispatch(<Dispatch as KernelOps>::group_norm(
        x.clone(),
        or(images.skip, &x),
        norm.weight.into_dispatch(),
        norm.bias.into_dispatch(),
        or(norm.scale_shift, &x),
        or(norm.mask, &x),
        present,
        norm.options,
    ))
}

/// softmax(QKᵀ/√d)·V for each head (Vaswani et al. 2017).
///
/// * `q`, `k`, `v`: `[B, N, heads·d]`, N tokens, a head's d channels side by side;
/// * returns `[B, N, heads·d]`.
///
/// # Panics
///
/// If shapes or types disagree, or the heads do not divide the channels.
pub fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, heads: usize) -> Tensor<3> {
    operands::attention(&q, &k, &v, heads);
    let switches = switches::apart();
    if !switches.cover(&q) {
        return composite::attention(q, k, v, heads);
    }
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as KernelOps>::attention(q, k, v, heads))
}

/// Σx², `[1]`, of a tensor outside autodiff.
pub fn square_sum(x: Tensor<1>) -> Tensor<1> {
    let switches = switches::apart();
    if !switches.cover(&x) {
        return x.square().sum();
    }
    Tensor::from_dispatch(<Dispatch as KernelOps>::square_sum(x.into_dispatch()))
}
