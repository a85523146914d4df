//! The operations as a Burn backend extension: forward on the host, backward in
//! `autodiff`.

#![allow(
    deprecated,
    reason = "the macro names NdArray, kept until Burn removes it: see docs/design.md"
)]
#![allow(
    clippy::too_many_arguments,
    reason = "a backend extension takes tensors one by one"
)]

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};

use crate::cpu::Isa;
use crate::cpu::adamw;
use crate::cpu::attention::{self, Attention};
use crate::cpu::conv::{Conv, Epilogue, Shape};
use crate::cpu::norm::{self, GroupNorm, Images, Moments};
use crate::cpu::vector::rounded;
use crate::host::Host;
use crate::kept;
use crate::{ConvOptions, NormOptions};

/// Which of a convolution's optional inputs there are.
#[derive(Clone, Copy, Debug)]
#[allow(
    missing_docs,
    clippy::struct_excessive_bools,
    reason = "each says whether the input of its name is there"
)]
pub struct ConvPresent {
    pub skip: bool,
    pub bias: bool,
    pub shift: bool,
    pub residual: bool,
}

/// Which of a group norm's optional inputs there are.
#[derive(Clone, Copy, Debug)]
#[allow(
    missing_docs,
    reason = "each says whether the input of its name is there"
)]
pub struct NormPresent {
    pub skip: bool,
    pub scale_shift: bool,
}

/// The U-Net's operations, of images `[batch, height, width, channels]`.
///
/// What each computes stands at the function of the same name in the crate's root, which is how
/// they are called. A backend extension cannot take an `Option` of a tensor: where an input is
/// absent, x is given in its place and `present` says so.
#[backend_extension(Flex: cfg(feature = "flex"), NdArray: cfg(feature = "ndarray"), Autodiff)]
pub trait KernelOps: Backend {
    /// See [`conv`](crate::conv).
    fn conv(
        x: FloatTensor<Self>,
        x2: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        present: ConvPresent,
        options: ConvOptions,
    ) -> FloatTensor<Self>;

    /// See [`group_norm`](crate::group_norm).
    fn group_norm(
        x: FloatTensor<Self>,
        x2: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale_shift: FloatTensor<Self>,
        present: NormPresent,
        options: NormOptions,
    ) -> FloatTensor<Self>;

    /// See [`attention`](crate::attention).
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self>;

    /// See [`square_sum`](crate::square_sum).
    fn square_sum(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl<B: Host> KernelOps for B {
    fn conv(
        x: FloatTensor<Self>,
        x2: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        present: ConvPresent,
        options: ConvOptions,
    ) -> FloatTensor<Self> {
        let x2 = present.skip.then_some(x2);
        let bias = present.bias.then_some(bias);
        let shift = present.shift.then_some(shift);
        let residual = present.residual.then_some(residual);
        ConvInputs::<B>::new(x, x2, weight, options).forward(bias, shift, residual)
    }

    fn group_norm(
        x: FloatTensor<Self>,
        x2: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale_shift: FloatTensor<Self>,
        present: NormPresent,
        options: NormOptions,
    ) -> FloatTensor<Self> {
        let x2 = present.skip.then_some(x2);
        let scale_shift = present.scale_shift.then_some(scale_shift);
        NormInputs::<B>::new(x, x2, weight, bias, scale_shift, options)
            .forward()
            .0
    }

    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        AttentionInputs::<B>::new(q, k, v, heads).forward().0
    }

    fn square_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = B::contiguous(x);
        let sum = adamw::square_sum(Isa::detect(), B::floats(&x));
        B::tensor(vec![rounded(sum)], &[1], &x.device())
    }
}

/// Sizes of a tensor of known rank.
pub(crate) fn dims<B: Host, const D: usize>(tensor: &FloatTensor<B>) -> [usize; D] {
    let shape = tensor.shape();
    std::array::from_fn(|i| shape[i])
}

pub(crate) fn floats<B: Host>(tensor: Option<&FloatTensor<B>>) -> Option<&[f32]> {
    tensor.map(B::floats)
}

/// What a convolution reads and its gradients need again.
#[derive(Clone, Debug)]
pub(crate) struct ConvInputs<B: Host> {
    pub(crate) x: FloatTensor<B>,
    pub(crate) x2: Option<FloatTensor<B>>,
    pub(crate) weight: FloatTensor<B>,
    pub(crate) conv: Conv,
}

impl<B: Host> ConvInputs<B> {
    pub(crate) fn new(
        x: FloatTensor<B>,
        x2: Option<FloatTensor<B>>,
        weight: FloatTensor<B>,
        options: ConvOptions,
    ) -> Self {
        let [_, height, width, channels] = dims::<B, 4>(&x);
        let [out_channels, _, rows, cols] = dims::<B, 4>(&weight);
        let shape = Shape {
            size: [height, width],
            in_channels: [channels, x2.as_ref().map_or(0, |x2| dims::<B, 4>(x2)[3])],
            out_channels,
            kernel: [rows, cols],
            stride: options.stride,
            padding: options.padding,
            upsample: options.upsample,
        };
        Self {
            x: B::contiguous(x),
            x2: x2.map(B::contiguous),
            weight: B::contiguous(weight),
            conv: Conv::new(shape).unwrap_or_else(|error| panic!("{error}")),
        }
    }

    pub(crate) fn inputs(&self) -> [&[f32]; 2] {
        [
            B::floats(&self.x),
            floats::<B>(self.x2.as_ref()).unwrap_or(&[]),
        ]
    }

    pub(crate) fn forward(
        &self,
        bias: Option<FloatTensor<B>>,
        shift: Option<FloatTensor<B>>,
        residual: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        let [batch, ..] = dims::<B, 4>(&self.x);
        let [height, width] = self.conv.output_size();
        let shape = [batch, height, width, self.conv.shape().out_channels];
        let [bias, shift, residual] = [bias, shift, residual].map(|t| t.map(B::contiguous));
        let epilogue = Epilogue {
            bias: floats::<B>(bias.as_ref()),
            shift: floats::<B>(shift.as_ref()),
            residual: floats::<B>(residual.as_ref()),
        };
        let weight = kept::packed::<B>(&self.conv, &self.weight);
        let mut y = vec![0.0; shape.iter().product()];
        self.conv.forward(&weight, self.inputs(), epilogue, &mut y);
        B::tensor(y, &shape, &self.x.device())
    }
}

/// What a group norm reads and its gradients need again.
#[derive(Clone, Debug)]
pub(crate) struct NormInputs<B: Host> {
    pub(crate) x: FloatTensor<B>,
    pub(crate) x2: Option<FloatTensor<B>>,
    pub(crate) weight: FloatTensor<B>,
    pub(crate) bias: FloatTensor<B>,
    pub(crate) scale_shift: Option<FloatTensor<B>>,
    options: NormOptions,
}

impl<B: Host> NormInputs<B> {
    pub(crate) fn new(
        x: FloatTensor<B>,
        x2: Option<FloatTensor<B>>,
        weight: FloatTensor<B>,
        bias: FloatTensor<B>,
        scale_shift: Option<FloatTensor<B>>,
        options: NormOptions,
    ) -> Self {
        Self {
            x: B::contiguous(x),
            x2: x2.map(B::contiguous),
            weight: B::contiguous(weight),
            bias: B::contiguous(bias),
            scale_shift: scale_shift.map(B::contiguous),
            options,
        }
    }

    pub(crate) fn norm(&self) -> GroupNorm<'_> {
        let [batch, height, width, _] = dims::<B, 4>(&self.x);
        GroupNorm {
            batch,
            pixels: height * width,
            groups: self.options.groups,
            eps: self.options.eps,
            weight: B::floats(&self.weight),
            bias: B::floats(&self.bias),
            pre_shift: None,
            scale_shift: floats::<B>(self.scale_shift.as_ref()),
            silu: self.options.silu,
        }
    }

    pub(crate) fn images(&self) -> Images<'_> {
        Images {
            x: B::floats(&self.x),
            x2: floats::<B>(self.x2.as_ref()),
        }
    }

    pub(crate) fn forward(&self) -> (FloatTensor<B>, Vec<Moments>) {
        let [batch, height, width, _] = dims::<B, 4>(&self.x);
        let norm = self.norm();
        let shape = [batch, height, width, norm.weight.len()];
        let mut y = vec![0.0; shape.iter().product()];
        let mut moments = vec![Moments::default(); batch * norm.groups];
        norm::forward(Isa::detect(), &norm, self.images(), &mut y, &mut moments);
        (B::tensor(y, &shape, &self.x.device()), moments)
    }
}

/// What attention reads and its gradients need again.
#[derive(Clone, Debug)]
pub(crate) struct AttentionInputs<B: Host> {
    qkv: [FloatTensor<B>; 3],
    pub(crate) sizes: Attention,
}

impl<B: Host> AttentionInputs<B> {
    pub(crate) fn new(
        q: FloatTensor<B>,
        k: FloatTensor<B>,
        v: FloatTensor<B>,
        heads: usize,
    ) -> Self {
        let [batch, tokens, channels] = dims::<B, 3>(&q);
        assert!(
            heads > 0 && channels.is_multiple_of(heads),
            "{channels} channels do not divide into {heads} heads"
        );
        Self {
            qkv: [q, k, v].map(B::contiguous),
            sizes: Attention {
                batch,
                tokens,
                heads,
                dim: channels / heads,
            },
        }
    }

    pub(crate) fn qkv(&self) -> [&[f32]; 3] {
        self.qkv.each_ref().map(B::floats)
    }

    /// The output, and what the gradients need besides it: each row's log-sum-exp.
    pub(crate) fn forward(&self) -> (FloatTensor<B>, Vec<f32>) {
        let Attention {
            batch,
            tokens,
            heads,
            dim,
        } = self.sizes;
        let mut y = vec![0.0; batch * tokens * heads * dim];
        let mut log_sums = vec![0.0; batch * tokens * heads];
        attention::forward(
            Isa::detect(),
            &self.sizes,
            self.qkv(),
            &mut y,
            &mut log_sums,
        );
        let shape = [batch, tokens, heads * dim];
        (B::tensor(y, &shape, &self.qkv[0].device()), log_sums)
    }
}
