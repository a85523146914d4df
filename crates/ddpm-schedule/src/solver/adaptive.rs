//! DPM-Solver with adaptive step sizes (Lu et al. 2022, "DPM-Solver", appendix C): two solutions of
//! consecutive orders share their evaluations, and their difference determines the next step size.

use thiserror::Error;

use super::Row;
use super::single::{SingleStep, Slope};
use crate::NoiseLevel;

/// The step size control of DPM-Solver-12 or -23.
///
/// The caller evaluates the [`pair`](Self::pair) of solutions from t to [`next`](Self::next), and
/// passes the root mean square of (low − high)/δ, with δ = [`tolerance`](Self::tolerance), to
/// [`judge`](Self::judge). After an accepted step it continues with `high`; after a refused one it
/// starts from t again. The end must have noise.
///
/// It is a PID controller with a limit on each change (Söderlind 2003).
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Adaptive, AdaptiveSettings};
///
/// let mut control = Adaptive::new(3, AdaptiveSettings::default())?;
/// let [t, end] = [80.0, 0.01].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// let s = control.next(t, end).unwrap(); // the first step
/// assert!(control.judge(1e-3)); // accepted
/// assert!(control.next(s, end).unwrap().sigma() / s.sigma() < s.sigma() / t.sigma());
/// # Ok::<(), ddpm_schedule::solver::AdaptiveError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Adaptive {
    order: usize,
    settings: AdaptiveSettings,
    h: f64,
    /// 1/error of the last two accepted steps, the newest first.
    inverse: Option<[f64; 2]>,
}

/// The settings of [`Adaptive`].
///
/// ```
/// use ddpm_schedule::solver::{Adaptive, AdaptiveSettings};
///
/// let settings = AdaptiveSettings { rtol: 0.01, ..AdaptiveSettings::default() };
/// assert_eq!(Adaptive::new(2, settings)?.settings(), settings);
/// # Ok::<(), ddpm_schedule::solver::AdaptiveError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdaptiveSettings {
    /// The allowed error relative to |x|, > 0.
    pub rtol: f64,
    /// The allowed absolute error, > 0.
    pub atol: f64,
    /// The first step in ½ log-SNR, > 0.
    pub first: f64,
    /// The coefficients of the controller: proportional, integral and derivative.
    pub pid: [f64; 3],
    /// A step is accepted if the controller would multiply its size by this much or more; from 0 to
    /// 1.
    pub safety: f64,
}

impl Default for AdaptiveSettings {
    /// 5 % of |x| and 2/256, as in the paper; only the integral coefficient is not 0.
    fn default() -> Self {
        Self {
            rtol: 0.05,
            atol: 0.0078,
            first: 0.05,
            pid: [0.0, 1.0, 0.0],
            safety: 0.81,
        }
    }
}

/// Invalid arguments of [`Adaptive::new`].
///
/// ```
/// use ddpm_schedule::solver::{Adaptive, AdaptiveError, AdaptiveSettings};
///
/// let error = Adaptive::new(4, AdaptiveSettings::default()).unwrap_err();
/// assert_eq!(error, AdaptiveError::Order(4));
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum AdaptiveError {
    /// The order is not that of DPM-Solver-12 or DPM-Solver-23.
    #[error("the order must be 2 or 3, not {0}")]
    Order(usize),
    /// A setting is not positive and finite.
    #[error("{name} = {value} is outside (0, ∞)")]
    Setting {
        /// The field of [`AdaptiveSettings`].
        name: &'static str,
        /// The value refused.
        value: f64,
    },
}

/// Two solutions of consecutive orders from the same evaluations.
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Adaptive, AdaptiveSettings};
///
/// let control = Adaptive::new(3, AdaptiveSettings::default())?;
/// let [t, s] = [2.0, 1.0].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// let pair = control.pair(t, s);
/// assert_eq!((pair.asks.len(), pair.low.past.len(), pair.high.past.len()), (3, 3, 3));
/// # Ok::<(), ddpm_schedule::solver::AdaptiveError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Pair {
    /// The evaluations in order: the level, and the row of the input.
    pub asks: Vec<(NoiseLevel, Row)>,
    /// x_s of the lower order.
    pub low: Row,
    /// x_s of the higher order.
    pub high: Row,
}

impl Adaptive {
    /// DPM-Solver-12 (`order` = 2) or -23 (`order` = 3).
    ///
    /// # Errors
    ///
    /// For another order, and for a tolerance or first step that is not positive and finite.
    pub fn new(order: usize, settings: AdaptiveSettings) -> Result<Self, AdaptiveError> {
        if !(2..=3).contains(&order) {
            return Err(AdaptiveError::Order(order));
        }
        let AdaptiveSettings {
            rtol, atol, first, ..
        } = settings;
        for (name, value) in [("rtol", rtol), ("atol", atol), ("first", first)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(AdaptiveError::Setting { name, value });
            }
        }
        Ok(Self {
            order,
            settings,
            h: first,
            inverse: None,
        })
    }

    /// The solver of the higher order.
    pub fn solver(&self) -> SingleStep {
        SingleStep::dpm_solver(self.order)
    }

    /// The settings.
    pub fn settings(&self) -> AdaptiveSettings {
        self.settings
    }

    /// The level to try next, at most `end`; `None` once t is there.
    pub fn next(&self, t: NoiseLevel, end: NoiseLevel) -> Option<NoiseLevel> {
        let [from, to] = [t, end].map(NoiseLevel::half_log_snr);
        if from >= to - 1e-5 {
            None
        } else if from + self.h >= to {
            Some(end)
        } else {
            Some(t.along(end, from + self.h))
        }
    }

    /// The two solutions of the step from t to s.
    pub fn pair(&self, t: NoiseLevel, s: NoiseLevel) -> Pair {
        let solver = self.solver();
        let asks = solver.asks(t, s);
        let stages: Vec<_> = asks.iter().map(|ask| ask.0).collect();
        // Evaluation k of `low` is evaluation k + 1 of the pair, which has one more.
        let mut low = solver.stage(&stages[..stages.len() - 1], s, Slope::Chord);
        low.past.insert(0, super::Term::default());
        let high = solver.stage(&stages, s, Slope::Chord);
        Pair { asks, low, high }
    }

    /// δ = max(atol, rtol·max(|low|, |previous|)), where `previous` is the lower-order solution of
    /// the last accepted step, or the initial state.
    pub fn tolerance(&self, low: f64, previous: f64) -> f64 {
        let AdaptiveSettings { rtol, atol, .. } = self.settings;
        atol.max(rtol * low.abs().max(previous.abs()))
    }

    /// Whether a step with this error is accepted. Updates the step size.
    ///
    /// An error that is not finite is refused. Step sizes have no lower limit, so the caller must
    /// limit the number of attempts.
    pub fn judge(&mut self, error: f64) -> bool {
        let error = if error.is_finite() {
            error
        } else {
            f64::INFINITY
        };
        let [p, i, d] = self.settings.pid;
        let order = self.order as f64;
        let new = 1.0 / (error + 1e-8);
        let [last, older] = self.inverse.unwrap_or([new; 2]);
        let powers = [(p + i + d) / order, -(p + 2.0 * d) / order, d / order];
        let factor = new.powf(powers[0]) * last.powf(powers[1]) * older.powf(powers[2]);
        let limited = 1.0 + (factor - 1.0).atan();
        let accepted = limited >= self.settings.safety;
        self.inverse = Some(if accepted { [new, last] } else { [last, older] });
        self.h *= limited;
        accepted
    }
}
