//! A step of AdamW with clipping and the moving average, on tensors.

use burn::tensor::{Tensor, TensorData};

use crate::cpu::Isa;
use crate::cpu::adamw::{self, AdamW};
use crate::{checks, switches};

/// A parameter with the optimizer's state, all `[n]`.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The values, p.
    pub value: Tensor<1>,
    /// Mean of the gradients, m; zeros before the first step.
    pub exp_avg: Tensor<1>,
    /// Mean of their squares, v; zeros before the first step.
    pub exp_avg_sq: Tensor<1>,
    /// Moving average of the values, ē.
    pub ema: Tensor<1>,
}

/// The parameter after a step of AdamW (Loshchilov & Hutter 2019) with PyTorch's order of
/// operations, ē ← d·ē + (1 − d)·p included.
///
/// The kernels take one pass over the memory, in place if nobody else holds the tensors.
///
/// # Panics
///
/// If the tensors differ in length or type.
pub fn adamw(parameter: Parameter, gradient: Tensor<1>, step: &AdamW) -> Parameter {
    let others = [
        ("the gradient", &gradient),
        ("the mean of the gradients", &parameter.exp_avg),
        ("the mean of their squares", &parameter.exp_avg_sq),
        ("the moving average", &parameter.ema),
    ];
    checks::adamw(&parameter.value, others);
    let switches = switches::take();
    if switches.cover(&parameter.value) {
        kernel(parameter, gradient, step)
    } else {
        composite(parameter, gradient, step)
    }
}

/// In one pass over the memory.
fn kernel(parameter: Parameter, gradient: Tensor<1>, step: &AdamW) -> Parameter {
    let device = parameter.value.device();
    let Parameter {
        value,
        exp_avg,
        exp_avg_sq,
        ema,
    } = parameter;
    let mut data = [value, exp_avg, exp_avg_sq, ema].map(Tensor::into_data);
    let gradient = gradient.into_data();
    let [value, exp_avg, exp_avg_sq, ema] = data.each_mut().map(|data| {
        data.as_mut_slice()
            .unwrap_or_else(|error| panic!("AdamW: {error}"))
    });
    let parameter = adamw::ParameterSlices {
        value,
        gradient: gradient
            .as_slice()
            .unwrap_or_else(|error| panic!("AdamW: {error}")),
        exp_avg,
        exp_avg_sq,
        ema,
    };
    adamw::update(Isa::detect(), step, parameter);
    let [value, exp_avg, exp_avg_sq, ema] =
        data.map(|data: TensorData| Tensor::from_data(data, &device));
    Parameter {
        value,
        exp_avg,
        exp_avg_sq,
        ema,
    }
}

/// With Burn's operations.
fn composite(parameter: Parameter, gradient: Tensor<1>, step: &AdamW) -> Parameter {
    let t = step.step as f64;
    let g = gradient * step.clip;
    let exp_avg = parameter.exp_avg * step.beta1 + g.clone() * (1.0 - step.beta1);
    let exp_avg_sq = parameter.exp_avg_sq * step.beta2 + g.clone() * g * (1.0 - step.beta2);
    let root = exp_avg_sq.clone().sqrt() / (1.0 - step.beta2.powf(t)).sqrt();
    let update = exp_avg.clone() / (root + step.eps) * (step.lr / (1.0 - step.beta1.powf(t)));
    let value = parameter.value * (1.0 - step.lr * step.weight_decay) - update;
    let ema = parameter.ema * step.ema_decay + value.clone() * (1.0 - step.ema_decay);
    Parameter {
        value,
        exp_avg,
        exp_avg_sq,
        ema,
    }
}
