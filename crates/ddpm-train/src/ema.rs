//! The exponential moving average of the weights, which is what one samples from.

use burn::module::Module;

use crate::params;

/// A network whose weights follow another's: ē ← d·ē + (1 − d)·e.
#[derive(Clone, Debug)]
pub struct Ema<M> {
    /// The averaged network, outside autodiff.
    pub module: M,
    /// The decay once the average has warmed up, in [0, 1).
    pub decay: f64,
}

impl<M: Module> Ema<M> {
    /// An average that starts at `module`'s weights.
    pub fn new(module: &M, decay: f64) -> Self {
        Self {
            module: module.valid(),
            decay,
        }
    }

    /// The decay used at update `n` = 1, 2, …: min(decay, (1 + n)/(10 + n)), so that a young
    /// average forgets the random weights it began with.
    pub fn decay_at(&self, n: u64) -> f64 {
        let n = n as f64;
        self.decay.min((1.0 + n) / (10.0 + n))
    }

    /// Moves the average towards `module` after its update number `n`.
    #[must_use]
    pub fn update(self, module: &M, n: u64) -> Self {
        let decay = self.decay_at(n);
        let online = params::values(module);
        let average = params::update(self.module, |name, average| match online.get(name) {
            Some(value) => average * decay + value.clone() * (1.0 - decay),
            None => average,
        });
        Self {
            module: average,
            decay: self.decay,
        }
    }
}
