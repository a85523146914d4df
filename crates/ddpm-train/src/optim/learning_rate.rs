//! The learning rate over a run.

use std::f64::consts::PI;

/// How the learning rate moves over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    /// The highest rate, that of the last step of warmup.
    pub peak: f64,
    /// Steps of linear warmup; with 0 or 1, the first step has the peak.
    pub warmup: u64,
    /// How the rate falls after warmup.
    pub decay: Decay,
}

/// How the learning rate falls from its peak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decay {
    /// It does not.
    #[default]
    Constant,
    /// Along half a cosine, toward 0 at the step after the last.
    Cosine,
    /// As the inverse square root of the step (Vaswani et al. 2017), wherever the run ends.
    InverseSqrt,
    /// Along a line, toward 0 at the step after the last.
    Linear,
}

impl LearningRate {
    /// The rate of step k = 1, 2, …, n of a run of n steps.
    ///
    /// With w = max(warmup, 1) and p = (k − w)/(n + 1 − w):
    ///
    /// ```text
    /// k < w          η = peak · k/w
    /// constant       η = peak
    /// cosine         η = peak · (1 + cos(π·p))/2
    /// inverse sqrt   η = peak · √(w/k)
    /// linear         η = peak · (1 − p)
    /// ```
    ///
    /// p would be 1 at step n + 1, so that the last step still moves the weights.
    pub fn at(&self, step: u64, steps: u64) -> f64 {
        let warmup = self.warmup.max(1);
        let (k, w) = (step as f64, warmup as f64);
        if step < warmup {
            return self.peak * k / w;
        }
        let length = (steps + 1).saturating_sub(warmup).max(1) as f64;
        let p = ((k - w) / length).min(1.0);
        self.peak
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Cosine => 0.5 * (1.0 + (PI * p).cos()),
                Decay::InverseSqrt => (w / k).sqrt(),
                Decay::Linear => 1.0 - p,
            }
    }
}
