//! One step of gradient descent.

use burn::module::Module;

use super::optimizer::{Average, Optimizer, Parameter, Step};
use crate::ema::Ema;
use crate::params::{self, Named, Shapes};

/// One update of the parameters of `shapes`, and of their averages. The other parameters stay as they
/// are.
///
/// It is done in place where nobody else holds the tensors.
///
/// # Panics
///
/// If there is no average.
pub fn step<M: Module>(
    optimizer: &mut dyn Optimizer,
    module: M,
    averages: &mut [Ema],
    mut gradients: Named,
    shapes: &Shapes,
    step: &Step,
) -> M {
    let (first, others) = averages.split_first_mut().expect("an average");
    params::update(module, |name, value| {
        let Some(shape) = shapes.get(name) else {
            return value;
        };
        let average = |ema: &mut Ema, value: &_| Average {
            value: ema.take(name, value),
            decay: ema.decay_at(step.number),
        };
        let own = average(first, &value);
        let (value, followed) = match gradients.remove(name) {
            Some(gradient) => {
                let parameter = Parameter { name, shape, value };
                optimizer.step_and_average(parameter, gradient, step, own)
            }
            // The loss did not depend on it.
            None => (value.clone(), own.follow(&value)),
        };
        first.values.insert(name.to_owned(), followed);
        for ema in others.iter_mut() {
            let followed = average(ema, &value).follow(&value);
            ema.values.insert(name.to_owned(), followed);
        }
        value
    })
}

/// The factor that brings gradients of the joint norm `norm` to at most `limit`.
pub fn clip(norm: f64, limit: Option<f64>) -> f64 {
    match limit {
        // PyTorch's clip_grad_norm_ adds the same 1e-6.
        Some(limit) if norm > limit => limit / (norm + 1e-6),
        _ => 1.0,
    }
}
