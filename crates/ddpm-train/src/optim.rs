//! Gradient descent: AdamW, the learning rate's course, clipping by the global norm.

use burn::module::Module;
use ddpm_kernels::{AdamW, Parameter, adamw};

use crate::ema::Ema;
use crate::params::{self, Named};

/// What AdamW is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the mean of the gradients, β₁, in [0, 1).
    pub beta_1: f64,
    /// Decay of the mean of their squares, β₂, in [0, 1).
    pub beta_2: f64,
    /// Added to the root of the second moment, ε.
    pub epsilon: f64,
    /// Decoupled weight decay, a multiple of the learning rate.
    pub weight_decay: f64,
}

/// AdamW (Loshchilov & Hutter 2019) over named vectors.
///
/// The moments are kept by parameter name, so that a checkpoint says what belongs to what and a
/// resumed run is complete or refused.
#[derive(Clone, Debug)]
pub struct Optim {
    settings: AdamWSettings,
    /// Updates made so far.
    pub updates: u64,
    /// Running mean of each parameter's gradient.
    pub exp_avg: Named,
    /// Running mean of each parameter's squared gradient.
    pub exp_avg_sq: Named,
}

/// PyTorch's defaults.
impl Default for AdamWSettings {
    fn default() -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
        }
    }
}

impl Optim {
    /// An optimizer that has seen nothing.
    pub fn new(settings: AdamWSettings) -> Self {
        Self {
            settings,
            updates: 0,
            exp_avg: Named::new(),
            exp_avg_sq: Named::new(),
        }
    }

    /// One update of every parameter that has a gradient, the gradients multiplied by `clip`, and
    /// of the parameters' averages.
    ///
    /// It is done in place where nobody else holds the tensors.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        ema: &mut Ema,
        mut gradients: Named,
        clip: f64,
        learning_rate: f64,
    ) -> M {
        self.updates += 1;
        let step = AdamW {
            lr: learning_rate,
            beta1: self.settings.beta_1,
            beta2: self.settings.beta_2,
            eps: self.settings.epsilon,
            weight_decay: self.settings.weight_decay,
            step: self.updates,
            ema_decay: ema.decay_at(self.updates),
            clip,
        };
        params::update(module, |name, value| {
            let Some(gradient) = gradients.remove(name) else {
                return value;
            };
            let take = |named: &mut Named| named.remove(name);
            let parameter = Parameter {
                exp_avg: take(&mut self.exp_avg).unwrap_or_else(|| value.zeros_like()),
                exp_avg_sq: take(&mut self.exp_avg_sq).unwrap_or_else(|| value.zeros_like()),
                ema: take(&mut ema.values).unwrap_or_else(|| value.clone()),
                value,
            };
            let parameter = adamw(parameter, gradient, &step);
            let name = name.to_owned();
            self.exp_avg.insert(name.clone(), parameter.exp_avg);
            self.exp_avg_sq.insert(name.clone(), parameter.exp_avg_sq);
            ema.values.insert(name, parameter.ema);
            parameter.value
        })
    }
}

/// How the learning rate moves over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    /// The rate after warmup.
    pub peak: f64,
    /// Steps of linear warmup; 0 starts at the peak.
    pub warmup: u64,
    /// Whether the rate falls to 0 at the last step along half a cosine.
    pub cosine: bool,
}

impl LearningRate {
    /// The rate of step `step` = 1, 2, … of a run of `steps`.
    pub fn at(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        if !self.cosine {
            return self.peak;
        }
        let length = steps.saturating_sub(self.warmup).max(1) as f64;
        let progress = (step - self.warmup) as f64 / length;
        self.peak * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
    }
}

/// The factor that brings gradients of the joint norm `norm` to at most `limit`.
pub fn clip(norm: f64, limit: Option<f64>) -> f64 {
    match limit {
        // PyTorch's clip_grad_norm_ adds the same 1e-6.
        Some(limit) if norm > limit => limit / (norm + 1e-6),
        _ => 1.0,
    }
}
