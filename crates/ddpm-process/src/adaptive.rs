//! The reverse process with steps that are chosen by their error.

use burn::tensor::Tensor;
use ddpm_schedule::NoiseLevel;
use ddpm_schedule::solver::{Adaptive, SingleStep, SolverError};

use crate::{Denoiser, Reverse, State};

/// Refused steps in a row after which there is none: each is a fraction of the one before.
const TRIES: usize = 12;

/// DPM-Solver-12 or -23 with the steps that [`Adaptive`] chooses, from `start` to `end` and then,
/// in one step, to clean data. Each item is a step that was accepted.
///
/// The error is that of the whole batch, and so are the steps: what a sample becomes depends, within
/// the tolerance, on the others of its batch. No noise is added.
pub struct AdaptiveReverse<const D: usize, M> {
    reverse: Reverse<D, M, SingleStep, fn(u32) -> Tensor<D>>,
    control: Adaptive,
    t: NoiseLevel,
    end: NoiseLevel,
    /// The lower-order solution of the last accepted step, which is the scale of the error.
    previous: Tensor<D>,
}

impl<const D: usize, M: Denoiser<D>> AdaptiveReverse<D, M> {
    /// Starts at `x` of the level `start`, as [`Reverse::new`] does.
    ///
    /// # Errors
    ///
    /// If a first step cannot be taken, as from a level without signal.
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

    /// How often the denoiser has been asked, for refused steps too.
    pub fn evaluations(&self) -> u32 {
        self.reverse.evaluations()
    }

    /// How much of the way in log-SNR is behind, from 0 to 1.
    pub fn progress(&self, start: NoiseLevel) -> f64 {
        if self.t == NoiseLevel::CLEAN {
            return 1.0;
        }
        let [from, at, to] = [start, self.t, self.end].map(NoiseLevel::log_snr);
        (at - from) / (to - from)
    }

    /// The next step that the tolerance allows, from t to `end` at the farthest.
    fn accepted(&mut self, mut s: NoiseLevel) -> Result<State<D>, SolverError> {
        for _ in 0..TRIES {
            let x = self.reverse.x().clone();
            self.reverse.forget();
            let state = self.reverse.step(self.t, s)?;
            // The state is put back, for the lower order starts from it too.
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
        // After an error there is nothing to go on with.
        self.t = item.as_ref().map_or(NoiseLevel::CLEAN, |state| state.to);
        Some(item)
    }
}
