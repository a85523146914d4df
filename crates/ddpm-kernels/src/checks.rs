//! Checks of the operands of an operation, with kernels or without. Burn would broadcast some operands
//! that do not match, and the kernels would read some in another order.

use burn::tensor::{DType, Tensor};

use crate::arguments::{ConvOptions, Images, Input, Norm, Terms};
use crate::cpu::conv::{Conv, Shape};

/// The operation and the type that all its operands must have.
struct Operands {
    operation: &'static str,
    /// The type of x.
    dtype: DType,
}

impl Operands {
    fn of<const D: usize>(operation: &'static str, x: &Tensor<D>) -> Self {
        Self {
            operation,
            dtype: x.dtype(),
        }
    }

    fn check<const D: usize>(&self, name: &str, operand: &Tensor<D>, shape: [usize; D]) {
        let Self { operation, dtype } = self;
        let (found, found_dtype) = (operand.dims(), operand.dtype());
        assert!(
            found == shape && found_dtype == *dtype,
            "{operation}: {name} is {found:?} of {found_dtype:?} instead of {shape:?} of {dtype:?}"
        );
    }

    /// Checks the second image; returns the channels of both.
    fn images(&self, images: &Images) -> [usize; 2] {
        let [batch, height, width, first] = images.x.dims();
        let second = images.skip.as_ref().map_or(0, |skip| {
            let second = skip.dims()[3];
            self.check("skip", skip, [batch, height, width, second]);
            second
        });
        [first, second]
    }

    fn norm(&self, images: &Images, norm: &Norm) {
        let [batch, height, width, _] = images.x.dims();
        let channels = self.images(images).into_iter().sum();
        self.check("the norm's weight", &norm.weight, [channels]);
        self.check("the norm's bias", &norm.bias, [channels]);
        if let Some(scale_shift) = &norm.scale_shift {
            self.check("scale_shift", scale_shift, [batch, 2 * channels]);
        }
        if let Some(mask) = &norm.mask {
            self.check("the mask", mask, [batch, height, width, channels]);
        }
        let groups = norm.options.groups;
        assert!(
            groups > 0 && channels.is_multiple_of(groups),
            "{}: {groups} groups do not divide {channels} channels",
            self.operation
        );
    }
}

/// Checks the operands of a convolution; returns it.
pub(crate) fn conv(input: &Input, weight: &Tensor<4>, terms: &Terms, options: ConvOptions) -> Conv {
    let operands = Operands::of("conv", &input.images.x);
    let [batch, height, width, _] = input.images.x.dims();
    let [first, second] = operands.images(&input.images);
    let in_channels = match &input.norm {
        Some(norm) => {
            operands.norm(&input.images, norm);
            [first + second, 0]
        }
        None => [first, second],
    };
    let [out_channels, _, rows, cols] = weight.dims();
    let weights = [out_channels, first + second, rows, cols];
    operands.check("the weight", weight, weights);
    let conv = Conv::new(Shape {
        size: [height, width],
        in_channels,
        out_channels,
        kernel: [rows, cols],
        stride: options.stride,
        padding: options.padding,
        upsample: options.upsample,
    })
    .unwrap_or_else(|error| panic!("conv: {error}"));
    if let Some(bias) = &terms.bias {
        operands.check("the bias", bias, [out_channels]);
    }
    if let Some(shift) = &terms.shift {
        operands.check("the shift", shift, [batch, out_channels]);
    }
    if let Some(residual) = &terms.residual {
        let [height, width] = conv.output_size();
        let output = [batch, height, width, out_channels];
        operands.check("the residual", residual, output);
    }
    conv
}

pub(crate) fn group_norm(images: &Images, norm: &Norm) {
    Operands::of("group_norm", &images.x).norm(images, norm);
}

pub(crate) fn attention(q: &Tensor<3>, k: &Tensor<3>, v: &Tensor<3>, heads: usize) {
    let operands = Operands::of("attention", q);
    operands.check("k", k, q.dims());
    operands.check("v", v, q.dims());
    let channels = q.dims()[2];
    assert!(
        heads > 0 && channels.is_multiple_of(heads),
        "attention: {channels} channels do not divide into {heads} heads"
    );
}

pub(crate) fn adamw(value: &Tensor<1>, others: [(&str, &Tensor<1>); 4]) {
    let operands = Operands::of("AdamW", value);
    for (name, other) in others {
        operands.check(name, other, value.dims());
    }
}
