//! The operations' gradients, for Burn's autodiff.
//!
//! An operation has a fixed number of parents; where an optional input is absent, x stands in its
//! place and is given no gradient for it. The gradients themselves have no gradients.

#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the type of the tensors is private"
)]

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, TensorMetadata};

use crate::cpu::conv::{Algorithm, shift_gradient};
use crate::cpu::norm::{self, Moments};
use crate::cpu::{Isa, attention};
use crate::host::Host;
use crate::ops::{
    AttentionInputs, ConvInputs, ConvPresent, KernelOps, NormInputs, NormPresent, dims,
};
use crate::{ConvOptions, NormOptions};

impl<B: Host, C: CheckpointStrategy> KernelOps for Autodiff<B, C> {
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
        let tensors = [x, x2, weight, bias, shift, residual];
        let nodes = tensors.each_ref().map(|t| t.node());
        let [x, x2, weight, bias, shift, residual] = tensors.map(|t| t.into_primitive());
        let x2 = present.skip.then_some(x2);
        let inputs = ConvInputs::<B>::new(x, x2, weight, options);
        let y = inputs.forward(
            present.bias.then_some(bias),
            present.shift.then_some(shift),
            present.residual.then_some(residual),
        );
        match ConvGradient.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, present), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
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
        let tensors = [x, x2, weight, bias, scale_shift];
        let nodes = tensors.each_ref().map(|t| t.node());
        let [x, x2, weight, bias, scale_shift] = tensors.map(|t| t.into_primitive());
        let x2 = present.skip.then_some(x2);
        let scale_shift = present.scale_shift.then_some(scale_shift);
        let inputs = NormInputs::<B>::new(x, x2, weight, bias, scale_shift, options);
        let (y, moments) = inputs.forward();
        match NormGradient.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, moments), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        let nodes = [q.node(), k.node(), v.node()];
        let [q, k, v] = [q, k, v].map(|t| t.into_primitive());
        let inputs = AttentionInputs::<B>::new(q, k, v, heads);
        let (y, log_sums) = inputs.forward();
        let gradient = AttentionGradient.prepare::<C>(nodes);
        match gradient.compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, y.clone(), log_sums), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn square_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(B::square_sum(x.into_primitive()))
    }
}

#[derive(Debug)]
struct ConvGradient;

impl<B: Host> Backward<B, 6> for ConvGradient {
    type State = (ConvInputs<B>, ConvPresent);

    fn backward(
        self,
        ops: Ops<Self::State, 6>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy = B::contiguous(grads.consume::<B>(&ops.node));
        let (inputs, present) = ops.state;
        let [x, x2, weight, bias, shift, residual] = ops.parents;
        let x2 = x2.filter(|_| present.skip);
        let device = dy.device();
        let slopes = B::floats(&dy);
        let conv = &inputs.conv;
        let isa = Isa::detect();
        let zeros = |t: &FloatTensor<B>| vec![0.0; t.shape().num_elements()];

        if x.is_some() || x2.is_some() {
            let packed = conv.pack_transpose(isa, Algorithm::Fastest, B::floats(&inputs.weight));
            let mut dx = x.as_ref().map(|_| zeros(&inputs.x));
            let mut dx2 = x2.as_ref().and(inputs.x2.as_ref()).map(zeros);
            let wanted = [dx.as_deref_mut(), dx2.as_deref_mut()];
            conv.input_gradient(&packed, slopes, wanted);
            let tensors = [(x, dx, Some(&inputs.x)), (x2, dx2, inputs.x2.as_ref())];
            for (parent, gradient, input) in tensors {
                if let (Some(parent), Some(gradient), Some(input)) = (parent, gradient, input) {
                    let shape = dims::<B, 4>(input);
                    grads.register::<B>(parent.id, B::tensor(gradient, &shape, &device));
                }
            }
        }
        if let Some(weight) = weight {
            let mut dw = zeros(&inputs.weight);
            let algorithm = Algorithm::Fastest;
            conv.weight_gradient(isa, algorithm, inputs.inputs(), slopes, &mut dw);
            let shape = dims::<B, 4>(&inputs.weight);
            grads.register::<B>(weight.id, B::tensor(dw, &shape, &device));
        }
        let bias = bias.filter(|_| present.bias);
        let shift = shift.filter(|_| present.shift);
        if bias.is_some() || shift.is_some() {
            let (batch, channels) = (dims::<B, 4>(&dy)[0], conv.shape().out_channels);
            let mut dshift = vec![0.0; batch * channels];
            let mut dbias = vec![0.0; channels];
            shift_gradient(isa, slopes, &mut dshift, &mut dbias);
            if let Some(bias) = bias {
                grads.register::<B>(bias.id, B::tensor(dbias, &[channels], &device));
            }
            if let Some(shift) = shift {
                let gradient = B::tensor(dshift, &[batch, channels], &device);
                grads.register::<B>(shift.id, gradient);
            }
        }
        if let Some(residual) = residual.filter(|_| present.residual) {
            grads.register::<B>(residual.id, dy);
        }
    }
}

#[derive(Debug)]
struct NormGradient;

impl<B: Host> Backward<B, 5> for NormGradient {
    type State = (NormInputs<B>, Vec<Moments>);

    fn backward(
        self,
        ops: Ops<Self::State, 5>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy = B::contiguous(grads.consume::<B>(&ops.node));
        let device = dy.device();
        let (inputs, moments) = ops.state;
        let zeros = |t: &FloatTensor<B>| vec![0.0; t.shape().num_elements()];
        let mut dx = zeros(&inputs.x);
        let mut dx2 = inputs.x2.as_ref().map(zeros);
        let mut dweight = zeros(&inputs.weight);
        let mut dbias = zeros(&inputs.bias);
        let mut dscale_shift = inputs.scale_shift.as_ref().map(zeros);
        let gradients = norm::Gradients {
            x: &mut dx,
            x2: dx2.as_deref_mut(),
            weight: &mut dweight,
            bias: &mut dbias,
            pre_shift: None,
            scale_shift: dscale_shift.as_deref_mut(),
        };
        let norm = inputs.norm();
        let slopes = B::floats(&dy);
        norm::backward(
            Isa::detect(),
            &norm,
            inputs.images(),
            &moments,
            slopes,
            gradients,
        );
        let [x, x2, weight, bias, scale_shift] = ops.parents;
        for (parent, gradient, input) in [
            (x, Some(dx), Some(&inputs.x)),
            (x2, dx2, inputs.x2.as_ref()),
            (weight, Some(dweight), Some(&inputs.weight)),
            (bias, Some(dbias), Some(&inputs.bias)),
            (scale_shift, dscale_shift, inputs.scale_shift.as_ref()),
        ] {
            if let (Some(parent), Some(gradient), Some(input)) = (parent, gradient, input) {
                let shape = input.shape();
                let shape: Vec<usize> = shape.iter().copied().collect();
                grads.register::<B>(parent.id, B::tensor(gradient, &shape, &device));
            }
        }
    }
}

#[derive(Debug)]
struct AttentionGradient;

impl<B: Host> Backward<B, 3> for AttentionGradient {
    /// The inputs, the output, and each row's log-sum-exp.
    type State = (AttentionInputs<B>, FloatTensor<B>, Vec<f32>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy = B::contiguous(grads.consume::<B>(&ops.node));
        let (inputs, y, log_sums) = ops.state;
        let shape = dims::<B, 3>(&dy);
        let mut gradients: [Vec<f32>; 3] =
            std::array::from_fn(|_| vec![0.0; shape.iter().product()]);
        attention::backward(
            Isa::detect(),
            &inputs.sizes,
            inputs.qkv(),
            (B::floats(&y), &log_sums),
            B::floats(&dy),
            gradients.each_mut().map(Vec::as_mut_slice),
        );
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, B::tensor(gradient, &shape, &dy.device()));
            }
        }
    }
}
