//! The operations' gradients, for Burn's autodiff.
//!
//! An operation has a fixed number of parents: x takes the place of an absent optional input and gets no
//! gradient for it. The gradients themselves have no gradients.

#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the type of the tensors is private"
)]

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, TensorMetadata};

use crate::arguments::NormOptions;
use crate::cpu::conv::{Algorithm, Conv, shift_gradient};
use crate::cpu::norm::Moments;
use crate::cpu::scratch::{Scratch, unwritten};
use crate::cpu::{Isa, attention};
use crate::host::Host;
use crate::inputs::{AttentionInputs, ConvInputs, ConvSource, NormInputs, dims};
use crate::ops::{KernelOps, Present};
use crate::switches::{self, Switches};

impl<B: Host, C: CheckpointStrategy> KernelOps for Autodiff<B, C> {
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
        let of_norm = [norm_weight, norm_bias, scale_shift];
        let of_conv = [x, x2, weight, bias, shift, residual];
        let [n0, n1, n2] = of_norm.each_ref().map(|t| t.node());
        let [c0, c1, c2, c3, c4, c5] = of_conv.each_ref().map(|t| t.node());
        let [norm_weight, norm_bias, scale_shift] = of_norm.map(|t| t.into_primitive());
        let [x, x2, weight, bias, shift, residual] = of_conv.map(|t| t.into_primitive());
        let optional = [
            present.skip.then_some(x2),
            present.scale_shift.then_some(scale_shift),
            present.mask.then_some(mask.into_primitive()),
        ];
        let source = ConvSource::<B>::new([x, norm_weight, norm_bias], optional, norm);
        let mut inputs = ConvInputs::new(source, weight, conv, switches.precision);
        let y = inputs.forward(
            present.bias.then_some(bias),
            present.shift.then_some(shift),
            present.residual.then_some(residual),
            &switches,
        );
        let nodes = [c0, c1, n0, n1, n2, c2, c3, c4, c5];
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
        mask: FloatTensor<Self>,
        present: Present,
        options: NormOptions,
    ) -> FloatTensor<Self> {
        let tensors = [x, x2, weight, bias, scale_shift];
        let nodes = tensors.each_ref().map(|t| t.node());
        let [x, x2, weight, bias, scale_shift] = tensors.map(|t| t.into_primitive());
        let optional = [
            present.skip.then_some(x2),
            present.scale_shift.then_some(scale_shift),
            present.mask.then_some(mask.into_primitive()),
        ];
        let inputs = NormInputs::<B>::new([x, weight, bias], optional, options);
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

impl<B: Host> Backward<B, 9> for ConvGradient {
    type State = (ConvInputs<B>, Present);

    fn backward(
        self,
        ops: Ops<Self::State, 9>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let _switches = switches::take();
        let dy = B::contiguous(grads.consume::<B>(&ops.node));
        let (inputs, present) = ops.state;
        let [
            x,
            x2,
            norm_weight,
            norm_bias,
            scale_shift,
            weight,
            bias,
            shift,
            residual,
        ] = ops.parents.map(|parent| parent.map(|node| node.id));
        let device = dy.device();
        let dy_floats = B::floats(&dy);
        let conv = &inputs.conv;
        let (isa, precision) = (Isa::detect(), inputs.precision);
        #[allow(unsafe_code, reason = "the gradients are written once")]
        // SAFETY: a convolution's gradients are written whole.
        let unwritten = |t: &FloatTensor<B>| unsafe { unwritten(t.shape().num_elements()) };

        if let Some(weight) = weight {
            let mut dw = unwritten(&inputs.weight);
            let algorithm = Algorithm::Fastest;
            inputs.read(|images| {
                conv.weight_gradient(isa, precision, algorithm, images, dy_floats, &mut dw);
            });
            let shape = dims::<B, 4>(&inputs.weight);
            grads.register::<B>(weight, B::tensor(dw, &shape, &device));
        }
        let transposed = || {
            let weights = B::floats(&inputs.weight);
            conv.pack_transpose(isa, precision, Algorithm::Fastest, weights)
        };
        match &inputs.source {
            ConvSource::Images { x: image, x2: skip } => {
                let x2 = x2.filter(|_| present.skip);
                if x.is_some() || x2.is_some() {
                    let mut dx = x.as_ref().map(|_| unwritten(image));
                    let mut dx2 = x2.as_ref().and(skip.as_ref()).map(unwritten);
                    let wanted = [dx.as_deref_mut(), dx2.as_deref_mut()];
                    conv.input_gradient(&transposed(), dy_floats, wanted);
                    register::<B>(grads, x, dx, Some(image));
                    register::<B>(grads, x2, dx2, skip.as_ref());
                }
            }
            ConvSource::Norm { inputs, moments } => {
                let parents = [x, x2, norm_weight, norm_bias, scale_shift];
                if parents.iter().any(Option::is_some) {
                    let mut dz = Scratch::take(inputs.len());
                    conv.input_gradient(&transposed(), dy_floats, [Some(&mut dz), None]);
                    inputs.register(grads, parents, moments, &dz);
                }
            }
        }
        let bias = bias.filter(|_| present.bias);
        let shift = shift.filter(|_| present.shift);
        if bias.is_some() || shift.is_some() {
            let (batch, channels) = (dims::<B, 4>(&dy)[0], conv.shape().out_channels);
            let mut dshift = vec![0.0; batch * channels];
            let mut dbias = vec![0.0; channels];
            shift_gradient(isa, dy_floats, &mut dshift, &mut dbias);
            if let Some(bias) = bias {
                grads.register::<B>(bias, B::tensor(dbias, &[channels], &device));
            }
            if let Some(shift) = shift {
                let gradient = B::tensor(dshift, &[batch, channels], &device);
                grads.register::<B>(shift, gradient);
            }
        }
        if let Some(residual) = residual.filter(|_| present.residual) {
            grads.register::<B>(residual, dy);
        }
    }
}

/// Registers the gradient of an input, if there is one.
fn register<B: Host>(
    grads: &mut Gradients,
    parent: Option<NodeId>,
    gradient: Option<Vec<f32>>,
    input: Option<&FloatTensor<B>>,
) {
    if let (Some(parent), Some(gradient), Some(input)) = (parent, gradient, input) {
        let shape: Vec<usize> = input.shape().iter().copied().collect();
        grads.register::<B>(parent, B::tensor(gradient, &shape, &input.device()));
    }
}

impl<B: Host> NormInputs<B> {
    /// Registers the gradients of x, skip, weight, bias, scale and shift.
    fn register(
        &self,
        grads: &mut Gradients,
        [x, x2, weight, bias, scale_shift]: [Option<NodeId>; 5],
        moments: &[Moments],
        dy: &[f32],
    ) {
        let found = self.gradients(moments, dy);
        register::<B>(grads, x, Some(found.x), Some(&self.x));
        register::<B>(grads, x2, found.x2, self.x2.as_ref());
        register::<B>(grads, weight, Some(found.weight), Some(&self.weight));
        register::<B>(grads, bias, Some(found.bias), Some(&self.bias));
        let (found, input) = (found.scale_shift, self.scale_shift.as_ref());
        register::<B>(grads, scale_shift, found, input);
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
        let _switches = switches::take();
        let dy = B::contiguous(grads.consume::<B>(&ops.node));
        let (inputs, moments) = ops.state;
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        inputs.register(grads, parents, &moments, B::floats(&dy));
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
        let _switches = switches::take();
        let dy = B::contiguous(grads.consume::<B>(&ops.node));
        let (inputs, y, log_sums) = ops.state;
        let shape = dims::<B, 3>(&dy);
        #[allow(unsafe_code, reason = "the gradients are written once")]
        // SAFETY: attention's gradients are written whole.
        let mut gradients: [Vec<f32>; 3] =
            std::array::from_fn(|_| unsafe { unwritten(shape.iter().product()) });
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
