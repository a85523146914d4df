//! The exponential moving average of the weights, which is what one samples from.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::params::{self, Named};

/// Weights that follow a network's, by [`optim::step`](crate::optim::step):
///
/// ```text
/// ē ← d·ē + (1 − d)·e
/// ```
#[derive(Clone, Debug)]
pub struct Ema {
    /// The average of each parameter.
    pub values: Named,
    /// The decay once the average has warmed up, in [0, 1).
    pub decay: f64,
}

impl Ema {
    /// An average that starts at `module`'s weights.
    pub fn new<M: Module>(module: &M, decay: f64) -> Self {
        Self {
            values: params::values(module),
            decay,
        }
    }

    /// The decay used at update `n` = 1, 2, …: min(decay, (1 + n)/(10 + n)), so that a young
    /// average forgets the random weights it began with.
    pub fn decay_at(&self, n: u64) -> f64 {
        let n = n as f64;
        self.decay.min((1.0 + n) / (10.0 + n))
    }

    /// Takes the average of a parameter, or its value if it has none yet.
    pub(crate) fn take(&mut self, name: &str, value: &Tensor<1>) -> Tensor<1> {
        let average = self.values.remove(name);
        average.unwrap_or_else(|| value.clone())
    }

    /// The averaged network, outside autodiff; `module` is the one it follows.
    pub fn module<M: Module>(&self, module: &M) -> M {
        params::update(module.valid(), |name, value| {
            self.values.get(name).cloned().unwrap_or(value)
        })
    }
}
