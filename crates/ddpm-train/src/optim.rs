//! Gradient descent: AdamW, the learning rate's course, clipping by the global norm.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::Tensor;

use crate::params::{self, Named};

/// What AdamW is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the mean of the gradients, in [0, 1).
    pub beta_1: f32,
    /// Decay of the mean of their squares, in [0, 1).
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay, a multiple of the learning rate.
    pub weight_decay: f32,
}

/// AdamW (Loshchilov & Hutter 2019) over named vectors.
///
/// The rule is Burn's; the moments are kept here by parameter name, so that a checkpoint says
/// what belongs to what and a resumed run is complete or refused.
#[derive(Clone)]
pub struct Optim {
    rule: AdamW,
    /// Updates made so far.
    pub updates: u64,
    /// Running mean of each parameter's gradient.
    pub exp_avg: Named,
    /// Running mean of each parameter's squared gradient.
    pub exp_avg_sq: Named,
}

impl Optim {
    /// An optimizer that has seen nothing.
    pub fn new(settings: AdamWSettings) -> Self {
        let rule = AdamWConfig::new()
            .with_beta_1(settings.beta_1)
            .with_beta_2(settings.beta_2)
            .with_epsilon(settings.epsilon)
            .with_weight_decay(settings.weight_decay)
            .build();
        Self {
            rule,
            updates: 0,
            exp_avg: BTreeMap::new(),
            exp_avg_sq: BTreeMap::new(),
        }
    }

    /// One update of every parameter that has a gradient.
    pub fn step<M: Module>(&mut self, module: M, mut gradients: Named, learning_rate: f64) -> M {
        let time = usize::try_from(self.updates).unwrap_or(usize::MAX);
        self.updates += 1;
        params::update(module, |name, value| {
            let Some(gradient) = gradients.remove(name) else {
                return value;
            };
            let state = self.exp_avg.remove(name).zip(self.exp_avg_sq.remove(name));
            let state = state.map(|(exp_avg, exp_avg_sq)| {
                AdamWState::new(AdaptiveMomentumState::new(time, exp_avg, exp_avg_sq))
            });
            let (value, state) = self.rule.step::<1>(learning_rate, value, gradient, state);
            if let Some(state) = state {
                let name = name.to_owned();
                self.exp_avg.insert(name.clone(), state.momentum.moment_1);
                self.exp_avg_sq.insert(name, state.momentum.moment_2);
            }
            value
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

/// Scales all gradients so that their joint norm is at most `limit`; returns the norm before.
pub fn clip(gradients: &mut Named, limit: Option<f64>) -> f64 {
    let norm = params::norm(gradients);
    if let Some(limit) = limit.filter(|&limit| norm > limit) {
        // PyTorch's clip_grad_norm_ adds the same 1e-6.
        let scale = limit / (norm + 1e-6);
        for tensor in gradients.values_mut() {
            let scaled: Tensor<1> = tensor.clone() * scale;
            *tensor = scaled;
        }
    }
    norm
}
