//! The operations in terms of Burn's, for the backends without kernels.

use burn::tensor::activation::{silu, softmax};
use burn::tensor::module::{conv2d, interpolate};
use burn::tensor::ops::{ConvOptions as BurnConv, InterpolateMode, InterpolateOptions};
use burn::tensor::{Tensor, ops::PadMode};

use crate::arguments::{ConvOptions, Images, Norm, Terms};

/// Both images in one tensor.
fn joined(images: Images) -> Tensor<4> {
    match images.skip {
        Some(skip) => Tensor::cat(vec![images.x, skip], 3),
        None => images.x,
    }
}

pub(crate) fn conv(
    images: Images,
    weight: Tensor<4>,
    terms: Terms,
    options: ConvOptions,
) -> Tensor<4> {
    let mut x = joined(images).permute([0, 3, 1, 2]);
    if options.upsample > 1 {
        let factor = options.upsample as f32;
        let nearest =
            InterpolateOptions::new(InterpolateMode::Nearest).with_scale_factor([factor, factor]);
        x = interpolate(x, nearest);
    }
    let [rows, cols] = options.padding;
    let same_on_both_sides = rows[0] == rows[1] && cols[0] == cols[1];
    let padding = if same_on_both_sides {
        [rows[0], cols[0]]
    } else {
        x = x.pad((cols[0], cols[1], rows[0], rows[1]), PadMode::Constant(0.0));
        [0, 0]
    };
    let stride = [options.stride; 2];
    let burn = BurnConv::new(stride, padding, [1, 1], 1);
    let mut y = conv2d(x, weight, terms.bias, burn).permute([0, 2, 3, 1]);
    if let Some(shift) = terms.shift {
        y = y + shift.unsqueeze_dims(&[1, 2]);
    }
    match terms.residual {
        Some(residual) => y + residual,
        None => y,
    }
}

pub(crate) fn group_norm(images: Images, norm: Norm) -> Tensor<4> {
    let x = joined(images);
    let options = norm.options;
    let [batch, height, width, channels] = x.dims();
    let (pixels, groups) = (height * width, options.groups);
    // [B, G, H·W, C/G] → [B, G, H·W·C/G]: a group's elements in one row.
    let size = pixels * channels / groups;
    let rows: Tensor<3> = x
        .reshape([batch, pixels, groups, channels / groups])
        .swap_dims(1, 2)
        .reshape([batch, groups, size]);
    let centred = rows.clone() - rows.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let normal: Tensor<4> = (centred / (variance + options.eps).sqrt())
        .reshape([batch, groups, pixels, channels / groups])
        .swap_dims(1, 2)
        .reshape([batch, height, width, channels]);
    let mut y = normal * norm.weight.unsqueeze() + norm.bias.unsqueeze();
    if let Some(scale_shift) = norm.scale_shift {
        let of = |first| -> Tensor<4> {
            let part = scale_shift.clone().narrow(1, first, channels);
            part.unsqueeze_dims(&[1, 2])
        };
        y = y * (of(0) + 1.0) + of(channels);
    }
    if options.silu {
        y = silu(y);
    }
    match norm.mask {
        Some(mask) => y * mask,
        None => y,
    }
}

pub(crate) fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, heads: usize) -> Tensor<3> {
    let [batch, tokens, channels] = q.dims();
    let dim = channels / heads;
    let split =
        |x: Tensor<3>| -> Tensor<4> { x.reshape([batch, tokens, heads, dim]).swap_dims(1, 2) };
    let scores = split(q).matmul(split(k).swap_dims(2, 3)) / (dim as f64).sqrt();
    softmax(scores, 3)
        .matmul(split(v))
        .swap_dims(1, 2)
        .reshape([batch, tokens, channels])
}
