//! DPM-Solver with adaptive step sizes (Lu et al. 2022, "DPM-Solver",
//! appendix C): two solutions of neighbouring orders share their evaluations, and their difference
//! chooses the next step.

use thiserror::Error;

use super::Row;
use super::single::{SingleStep, Slope};
use crate::NoiseLevel;

/// The size of the steps of DPM-Solver-12 or -23, chosen by the error.
///
/// The caller drives it: it makes the [`pair`](Self::pair) of solutions from t to
/// [`next`](Self::next), takes the root of the mean of ((low − high)/δ)² with δ =
/// [`tolerance`](Self::tolerance), and tells [`judge`](Self::judge). An accepted step goes on with
/// `high`, a refused one starts from t again. The end has noise.
///
/// The controller is that of a PID regulator with a limit on each change (Söderlind 2003).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Adaptive {
    order: usize,
    settings: AdaptiveSettings,
    h: f64,
    /// 1/error of the last two accepted steps, the newest first.
    inverse: Option<[f64; 2]>,
}

/// What chooses the step size.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdaptiveSettings {
    /// The error allowed relative to |x|, > 0.
    pub rtol: f64,
    /// The error allowed whatever x is, > 0.
    pub atol: f64,
    /// The first step in ½ log-SNR, > 0.
    pub first: f64,
    /// The coefficients of the regulator: proportional, integral and derivative.
    pub pid: [f64; 3],
    /// A step is accepted where the regulator would multiply its size by this much or more; from
    /// 0 to 1.
    pub safety: f64,
}

impl Default for AdaptiveSettings {
    /// 5% of |x| and 2/256, as in the paper; the integral coefficient alone.
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

/// No such adaptive solver.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum AdaptiveError {
    /// There is DPM-Solver-12 and DPM-Solver-23.
    #[error("the order is 2 or 3, not {0}")]
    Order(usize),
    /// A setting that is zero, negative or not finite.
    #[error("{name} = {value} is outside (0, ∞)")]
    Setting {
        /// The field of [`AdaptiveSettings`].
        name: &'static str,
        /// The value refused.
        value: f64,
    },
}

/// Two solutions from the same evaluations.
#[derive(Clone, PartialEq, Debug)]
pub struct Pair {
    /// Where the denoiser is asked, in order.
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

    /// What chooses the step size.
    pub fn settings(&self) -> AdaptiveSettings {
        self.settings
    }

    /// The level to try next, `end` at the farthest; `None` once t is there.
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
        let marks: Vec<_> = asks.iter().map(|ask| ask.0).collect();
        // Evaluation k of the first ones is evaluation k + 1 of them all.
        let mut low = solver.stage(&marks[..marks.len() - 1], s, Slope::Chord);
        low.past.insert(0, super::Term::default());
        let high = solver.stage(&marks, s, Slope::Chord);
        Pair { asks, low, high }
    }

    /// δ = max(atol, rtol·max(|low|, |previous|)), with `previous` the lower-order solution of the
    /// last accepted step, or the state of the start.
    pub fn tolerance(&self, low: f64, previous: f64) -> f64 {
        let AdaptiveSettings { rtol, atol, .. } = self.settings;
        atol.max(rtol * low.abs().max(previous.abs()))
    }

    /// Whether a step of this error is accepted. Chooses the size of the next.
    ///
    /// An error that is not finite is refused. Steps may become smaller without end; a caller
    /// limits the number of tries.
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
