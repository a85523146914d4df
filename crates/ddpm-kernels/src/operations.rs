//! The operations on tensors: kernels where there are any, and otherwise Burn's operations.

use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::Tensor;

use crate::arguments::{ConvOptions, Images, Input, Norm, Terms};
use crate::cpu::conv::Conv;
use crate::ops::{KernelOps, Present};
use crate::switches::{self, Switches};
use crate::{checks, composite};

/// The tensor, or `absent`, which takes the place of an absent input.
fn or<const D: usize>(tensor: Option<Tensor<D>>, absent: &DispatchTensor) -> DispatchTensor {
    tensor.map_or_else(|| absent.clone(), Tensor::into_dispatch)
}

/// y = conv(x, skip) + bias + shift + residual.
///
/// * `input`: `[B, H, W, I]`, the channels of both images together, or their norm;
/// * `weight`: `[O, I, kernel height, kernel width]`, PyTorch's layout;
/// * returns `[B, H', W', O]`.
///
/// # Panics
///
/// If shapes or types do not match, a size is zero, the groups of a norm do not divide the channels, or
/// the kernel is larger than the padded image.
pub fn conv(
    input: impl Into<Input>,
    weight: Tensor<4>,
    terms: Terms,
    options: ConvOptions,
) -> Tensor<4> {
    let input = input.into();
    let conv = checks::conv(&input, &weight, &terms, options);
    let switches = switches::take();
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
/// * `images`: `[B, H, W, C]`, the channels of both images together; a group may have channels of
///   both;
/// * returns `[B, H, W, C]`.
///
/// # Panics
///
/// If shapes or types do not match, or the groups do not divide the channels.
pub fn group_norm(images: impl Into<Images>, norm: Norm) -> Tensor<4> {
    let images = images.into();
    checks::group_norm(&images, &norm);
    let switches = switches::take();
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
/// * `q`, `k`, `v`: `[B, N, heads·d]`, N tokens, the d channels of a head side by side;
/// * returns `[B, N, heads·d]`.
///
/// # Panics
///
/// If shapes or types do not match, or the heads do not divide the channels.
pub fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, heads: usize) -> Tensor<3> {
    checks::attention(&q, &k, &v, heads);
    let switches = switches::take();
    if !switches.cover(&q) {
        return composite::attention(q, k, v, heads);
    }
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as KernelOps>::attention(q, k, v, heads))
}

/// Σx², `[1]`, of a tensor outside autodiff.
pub fn square_sum(x: Tensor<1>) -> Tensor<1> {
    let switches = switches::take();
    if !switches.cover(&x) {
        return x.square().sum();
    }
    Tensor::from_dispatch(<Dispatch as KernelOps>::square_sum(x.into_dispatch()))
}
