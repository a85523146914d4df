//! The reverse process with adaptive step sizes.

use burn::tensor::Tensor;
use ddpm_schedule::NoiseLevel;
use ddpm_schedule::solver::{Adaptive, SingleStep, SolverError};

use crate::{Denoiser, Reverse, State};

/// After this many refused attempts a step fails; each attempt is a fraction of the one before.
const MAX_ATTEMPTS: usize = 12;

/// DPM-Solver-12 or -23 with the step sizes that [`Adaptive`] chooses, from `start` to `end`, then
/// one step to clean data. Each item is an accepted step.
///
/// The whole batch shares the error estimate and the steps, so a sample depends, within the
/// tolerance, on the others of its batch. No noise is added.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ddpm_process::AdaptiveReverse;
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Adaptive, AdaptiveSettings};
///
/// // Standard normal data: x̂₀ = x/(1 + σ²).
/// let denoiser = |x: Tensor<2>, at: NoiseLevel| x / (1.0 + at.sigma().powi(2));
/// let ends = [10.0, 0.01].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// let control = Adaptive::new(3, AdaptiveSettings::default())?;
/// # let device = Device::flex();
/// let x = Tensor::<2>::from_floats([[10.0, -5.0]], &device);
/// let mut reverse = AdaptiveReverse::new(denoiser, control, ends, x)?;
/// while let Some(state) = reverse.next() {
///     println!("{} evaluations, σ = {}", reverse.evaluations(), state?.to.sigma());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AdaptiveReverse<const D: usize, M> {
    reverse: Reverse<D, M, SingleStep, fn(u32) -> Tensor<D>>,
    control: Adaptive,
    t: NoiseLevel,
    end: NoiseLevel,
    /// The lower-order solution of the last accepted step, to which the error is relative.
    previous: Tensor<D>,
}

impl<const D: usize, M: Denoiser<D>> AdaptiveReverse<D, M> {
    /// Starts at `x` of the level `start`, as [`Reverse::new`] does.
    ///
    /// # Errors
    ///
    /// If the first step cannot be taken, for example from a level without signal.
    ///
    /// # Panics
    ///
    /// As [`Reverse::new`].
    pub fn new(
        denoiser: M,
        control: Adaptive,
        [start, end]: [NoiseLevel; 2],
        x: Tensor<D>,
    ) -> Result<Self, SolverError> {
        let none: fn(u32) -> Tensor<D> = |_| unreachable!("the solver adds no noise");
        let levels = [start, end, NoiseLevel::CLEAN];
        Ok(Self {
            reverse: Reverse::new(denoiser, control.solver(), &levels, x.clone(), none)?,
            control,
            t: start,
            end,
            previous: x,
        })
    }

    /// The number of evaluations so far, including those of refused steps.
    pub fn evaluations(&self) -> u32 {
        self.reverse.evaluations()
    }

    /// The progress from `start` to the end in log-SNR, from 0 to 1.
    pub fn progress(&self, start: NoiseLevel) -> f64 {
        if self.t == NoiseLevel::CLEAN {
            return 1.0;
        }
        let [from, at, to] = [start, self.t, self.end].map(NoiseLevel::log_snr);
        (at - from) / (to - from)
    }

    /// Takes the next step that meets the tolerance, from t to at most `end`.
    fn accepted(&mut self, mut s: NoiseLevel) -> Result<State<D>, SolverError> {
        for _ in 0..MAX_ATTEMPTS {
            let x = self.reverse.x().clone();
            self.reverse.forget();
            let state = self.reverse.step(self.t, s)?;
            // Restore the state, because the lower-order solution starts from it too.
            *self.reverse.x() = x.clone();
            let low = self.reverse.value(&self.control.pair(self.t, s).low);
            let error = self.error(&low, &state.x);
            if self.control.judge(error) {
                *self.reverse.x() = state.x.clone();
                self.previous = low;
                return Ok(state);
            }
            s = self.control.next(self.t, self.end).unwrap_or(self.end);
        }
        let from = self.t.log_snr();
        Err(SolverError::StepTooSmall { from })
    }

    /// √mean((low − high)²/δ²) with δ = max(atol, rtol·max(|low|, |previous|)).
    fn error(&self, low: &Tensor<D>, high: &Tensor<D>) -> f64 {
        let settings = self.control.settings();
        let scale = low.clone().abs().max_pair(self.previous.clone().abs());
        let tolerance = (scale * settings.rtol).clamp_min(settings.atol);
        let squares = ((low.clone() - high.clone()) / tolerance).square();
        squares.mean().into_scalar::<f64>().sqrt()
    }
}

impl<const D: usize, M: Denoiser<D>> Iterator for AdaptiveReverse<D, M> {
    type Item = Result<State<D>, SolverError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.t == NoiseLevel::CLEAN {
            return None;
        }
        let item = if let Some(s) = self.control.next(self.t, self.end) {
            self.accepted(s)
        } else {
            self.reverse.forget();
            self.reverse.step(self.t, NoiseLevel::CLEAN)
        };
        // An error ends the iteration.
        self.t = item.as_ref().map_or(NoiseLevel::CLEAN, |state| state.to);
        Some(item)
    }
}
