//! All steps of a run, checked before the first tensor is made.

use thiserror::Error;

use super::{Position, Solver, Step};
use crate::NoiseLevel;
use crate::coefficient::fits;

/// Why a solver cannot take a step.
///
/// ```
/// use ddpm_schedule::solver::{Ddpm, Position, SolverError, Step, Variance};
/// use ddpm_schedule::NoiseLevel;
///
/// let t = NoiseLevel::variance_preserving(0.9)?;
/// let s = NoiseLevel::variance_preserving(0.5)?; // noisier than t
/// let at = Position { past: &[], t, s, left: None };
/// let error = Step::of(&Ddpm { variance: Variance::Small }, &at).unwrap_err();
/// assert!(matches!(error, SolverError::AddsNoise { .. }));
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum SolverError {
    /// The solver adds noise, but the step leads to more noise.
    #[error(
        "the sampler adds noise, so it cannot step towards noise, from a log-SNR of {from} to {to}; \
         use one without noise, such as ddim with η = 0"
    )]
    AddsNoise {
        /// The log-SNR that the step starts from.
        from: f64,
        /// The log-SNR that it leads to.
        to: f64,
    },
    /// A coefficient is too large for single precision.
    #[error(
        "{name} is {value:.2e} in the step from a log-SNR of {from} to {to}: single precision allows \
         at most 1e32{}", zero_snr(*.from)
    )]
    Coefficient {
        /// The name of the coefficient.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The log-SNR that the step starts from.
        from: f64,
        /// The log-SNR that it leads to.
        to: f64,
    },
    /// The step evaluates the denoiser at clean data, where it is not defined.
    #[error("the step from a log-SNR of {from} evaluates the denoiser at clean data")]
    AsksAtClean {
        /// The log-SNR that the step starts from.
        from: f64,
    },
    /// No step meets the tolerance.
    #[error("no step from a log-SNR of {from} meets the tolerance; increase the tolerance")]
    StepTooSmall {
        /// The log-SNR that the steps start from.
        from: f64,
    },
    /// A row combines evaluations that have not been made, or have been dropped.
    #[error(
        "the step from a log-SNR of {from} combines {wanted} evaluations, but {known} are kept; the \
         solver's memory() sets how many"
    )]
    Forgotten {
        /// The log-SNR that the step starts from.
        from: f64,
        /// How many evaluations the row combines.
        wanted: usize,
        /// How many are kept.
        known: usize,
    },
}

/// The explanation for a step that starts without signal.
fn zero_snr(from: f64) -> &'static str {
    if from == f64::NEG_INFINITY {
        "; at zero SNR σ = b/a is infinite; only samplers that interpolate x̂₀ can start there, such as ddim or dpmpp-2m"
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

    /// The step of `solver` at the position `at`, checked.
    ///
    /// # Errors
    ///
    /// If the step adds noise and leads to a lower SNR; if a factor or the standard deviation of
    /// x_t is not finite or above 10³²; if the denoiser is evaluated at clean data; or if a row
    /// combines evaluations that are not kept.
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

/// The checked steps of `solver` from each level to the next.
///
/// # Errors
///
/// As [`Step::of`].
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
