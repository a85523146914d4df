//! The steps of a whole way, checked before the first tensor is made.

use thiserror::Error;

use super::{Position, Solver, Step};
use crate::NoiseLevel;
use crate::coefficient::fits;

/// A solver that cannot take a step.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum SolverError {
    /// Noise would be added on the way from data to noise.
    #[error(
        "the sampler adds noise, and cannot go from data to noise, from a log-SNR of {from} to {to}; \
         one without noise can, such as ddim with η = 0"
    )]
    AddsNoise {
        /// The log-SNR that the step starts from.
        from: f64,
        /// The log-SNR that it leads to.
        to: f64,
    },
    /// A number that tensors of single precision cannot be multiplied by.
    #[error(
        "{name} is {value:.2e} in the step from a log-SNR of {from} to {to}: single precision has no \
         room for more than 1e32{}", zero_snr(*.from)
    )]
    Coefficient {
        /// What the number is.
        name: &'static str,
        /// The number.
        value: f64,
        /// The log-SNR that the step starts from.
        from: f64,
        /// The log-SNR that it leads to.
        to: f64,
    },
    /// A step that asks at clean data, of which no denoiser says anything.
    #[error("the step from a log-SNR of {from} asks the denoiser at clean data")]
    AsksAtClean {
        /// The log-SNR that the step starts from.
        from: f64,
    },
    /// No step is as small as a tolerance asks for.
    #[error(
        "no step from a log-SNR of {from} has an error within the tolerance; allow a larger one"
    )]
    StepTooSmall {
        /// The log-SNR that the steps start from.
        from: f64,
    },
    /// A row of evaluations that have not been made, or are forgotten.
    #[error(
        "the step from a log-SNR of {from} looks back on {wanted} evaluations, of which {known} are \
         known; a solver's memory() says how many are kept"
    )]
    Forgotten {
        /// The log-SNR that the step starts from.
        from: f64,
        /// How many evaluations the row combines.
        wanted: usize,
        /// How many there are.
        known: usize,
    },
}

/// What a starting level without signal means for a solver.
fn zero_snr(from: f64) -> &'static str {
    if from == f64::NEG_INFINITY {
        "; at zero SNR σ = b/a is infinite, and only samplers of x̂₀ start there, such as ddim or dpmpp-2m"
    } else {
        ""
    }
}

impl Step {
    /// Whether the step adds noise.
    pub fn is_stochastic(&self) -> bool {
        let rows = self.asks.iter().map(|ask| &ask.1).chain([&self.last]);
        rows.flat_map(|row| &row.z).any(|&z| z != 0.0)
    }

    /// The step of `solver` at `at`, if tensors can take it.
    ///
    /// # Errors
    ///
    /// If it adds noise on the way to a lower SNR, a factor or the size of x is not finite or
    /// above 10³², the denoiser is asked at clean data, or a row looks back on evaluations that
    /// are not there.
    pub fn of(solver: &impl Solver, at: &Position) -> Result<Self, SolverError> {
        let step = solver.step(at);
        let [from, to] = [at.t, at.s].map(NoiseLevel::log_snr);
        if to < from && step.is_stochastic() {
            return Err(SolverError::AddsNoise { from, to });
        }
        let mut known = at.past.len().min(solver.memory());
        for (level, row) in step
            .asks
            .iter()
            .map(|(at, row)| (Some(*at), row))
            .chain([(None, &step.last)])
        {
            let sizes = [("the standard deviation of x_t", at.t.prior_std())];
            let mut factors = row.factors().chain(sizes);
            if let Some((name, value)) = factors.find(|&(_, value)| !fits(value)) {
                return Err(SolverError::Coefficient {
                    name,
                    value,
                    from,
                    to,
                });
            }
            let wanted = row.past.len();
            if wanted > known {
                return Err(SolverError::Forgotten {
                    from,
                    wanted,
                    known,
                });
            }
            if level == Some(NoiseLevel::CLEAN) {
                return Err(SolverError::AsksAtClean { from });
            }
            known = (known + 1).min(solver.memory());
        }
        Ok(step)
    }
}

/// The steps from each level to the next.
///
/// # Errors
///
/// As of [`Step::of`].
pub fn steps(solver: &impl Solver, levels: &[NoiseLevel]) -> Result<Vec<Step>, SolverError> {
    let mut past = Vec::new();
    let pairs = levels.windows(2).enumerate();
    let steps = pairs.map(|(i, pair)| {
        let at = Position {
            past: &past,
            t: pair[0],
            s: pair[1],
            left: Some(levels.len() - 2 - i),
        };
        let step = Step::of(solver, &at)?;
        for (level, _) in &step.asks {
            past.insert(0, *level);
        }
        Ok(step)
    });
    steps.collect()
}
