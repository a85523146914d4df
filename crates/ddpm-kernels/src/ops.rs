//! The operations as a Burn backend extension: the forward pass on the host; `autodiff` has the
//! backward pass.

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

use crate::arguments::NormOptions;
use crate::cpu::Isa;
use crate::cpu::adamw;
use crate::cpu::conv::Conv;
use crate::cpu::vector::rounded;
use crate::host::Host;
use crate::inputs::{AttentionInputs, ConvInputs, ConvSource, NormInputs};
use crate::switches::Switches;

/// Which of an operation's optional inputs are present.
#[derive(Clone, Copy, Debug, Default)]
#[allow(
    missing_docs,
    clippy::struct_excessive_bools,
    reason = "each says whether the input of its name is present"
)]
pub struct Present {
    pub skip: bool,
    pub scale_shift: bool,
    pub mask: bool,
    pub bias: bool,
    pub shift: bool,
    pub residual: bool,
}

/// The U-Net's operations, of images `[batch, height, width, channels]`.
///
/// The functions of the same names in the crate root document them, check their operands and call
/// them. A backend extension cannot take an `Option` of a tensor: x takes the place of an absent
/// input, and `present` says so.
#[backend_extension(Flex: cfg(feature = "flex"), NdArray: cfg(feature = "ndarray"), Autodiff)]
pub trait KernelOps: Backend {
    /// See [`conv`](crate::conv).
    fn conv(
        x: FloatTensor<Self>,
        x2: FloatTensor<Self>,
        norm_weight: FloatTensor<Self>,
        norm_bias: FloatTensor<Self>,
        scale_shift: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        present: Present,
        norm: Option<NormOptions>,
        conv: Conv,
        switches: Switches,
    ) -> FloatTensor<Self>;

    /// See [`group_norm`](crate::group_norm).
    fn group_norm(
        x: FloatTensor<Self>,
        x2: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale_shift: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        present: Present,
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
        norm_weight: FloatTensor<Self>,
        norm_bias: FloatTensor<Self>,
        scale_shift: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        present: Present,
        norm: Option<NormOptions>,
        conv: Conv,
        switches: Switches,
    ) -> FloatTensor<Self> {
        let optional = [
            present.skip.then_some(x2),
            present.scale_shift.then_some(scale_shift),
            present.mask.then_some(mask),
        ];
        let source = ConvSource::<Self>::new([x, norm_weight, norm_bias], optional, norm);
        ConvInputs::new(source, weight, conv, switches.precision).forward(
            present.bias.then_some(bias),
            present.shift.then_some(shift),
            present.residual.then_some(residual),
            &switches,
        )
    }

    fn group_norm(
        x: FloatTensor<Self>,
        x2: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale_shift: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        present: Present,
        options: NormOptions,
    ) -> FloatTensor<Self> {
        let optional = [
            present.skip.then_some(x2),
            present.scale_shift.then_some(scale_shift),
            present.mask.then_some(mask),
        ];
        NormInputs::<Self>::new([x, weight, bias], optional, options)
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
