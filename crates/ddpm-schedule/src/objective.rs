//! A schedule, a parametrization and a weighting that fit together.

use thiserror::Error;

use crate::coefficient::fits;
use crate::{
    Denoise, NoiseLevel, NoiseSchedule, Parametrization, ParametrizationError, Timestep, Weighting,
    bound,
};

/// What a network is trained to predict, at which levels and with which weights.
///
/// One exists only if x̂₀ follows from the network's output at every time, and every number
/// that tensors are multiplied by is finite in single precision, with room for the product:
/// at most 10³² in size.
#[derive(Clone, PartialEq, Debug)]
pub struct Objective {
    schedule: NoiseSchedule,
    parametrization: Parametrization,
    weighting: Weighting,
}

/// A schedule, a parametrization and a weighting that do not fit together.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum ObjectiveError {
    /// The parametrization has no inverse at one of the levels.
    #[error(transparent)]
    Parametrization(#[from] ParametrizationError),
    /// The γ of min-SNR would not be a weight.
    #[error("γ = {0} of the min-SNR weighting must be above 0")]
    Gamma(f64),
    /// A number that tensors of single precision cannot be multiplied by.
    #[error(
        "{name} at t = {t} is {value:.2e}, which single precision has no room for: at most 1e32"
    )]
    Coefficient {
        /// What the number is.
        name: &'static str,
        /// The first such time.
        t: u32,
        /// The number there.
        value: f64,
    },
}

impl Objective {
    /// The three together.
    ///
    /// At zero SNR the weights take their limits: with x₀ and v, min-SNR is 0 there
    /// and the bound's weight is that of SNR_t = 0.
    ///
    /// # Errors
    ///
    /// If [`Parametrization::check`] fails or γ is not above 0. If at some t the signal a, the
    /// noise b, the weight or a coefficient of the bound with a learned variance is not finite
    /// or above 10³².
    pub fn new(
        schedule: NoiseSchedule,
        parametrization: Parametrization,
        weighting: Weighting,
    ) -> Result<Self, ObjectiveError> {
        if let Weighting::MinSnr { gamma } = weighting
            && (gamma.is_nan() || gamma <= 0.0)
        {
            return Err(ObjectiveError::Gamma(gamma));
        }
        let objective = Self {
            schedule,
            parametrization,
            weighting,
        };
        for t in objective.schedule.iter() {
            objective.check_level(t)?;
        }
        parametrization.check(&objective.schedule)?;
        for t in objective.schedule.iter() {
            objective.check_weights(t)?;
        }
        Ok(objective)
    }

    /// Whether x_t = a·x₀ + b·ε is finite.
    fn check_level(&self, t: Timestep) -> Result<(), ObjectiveError> {
        let level = self.schedule.level(t);
        check(t, "the signal a", level.signal())?;
        check(t, "the noise b", level.noise())
    }

    /// Whether the losses are finite: the weighted one, and the bound with a learned variance,
    /// where the root of the weight multiplies the error of x̂₀.
    fn check_weights(&self, t: Timestep) -> Result<(), ObjectiveError> {
        check(t, "the weight of the loss", self.weight(t))?;
        let (level, previous) = (self.schedule.level(t), self.schedule.previous(t));
        if previous != NoiseLevel::CLEAN {
            let root = bound::snr_weight(level, previous).sqrt();
            check(t, "√(½(SNR_s − SNR_t)) of the bound", root)?;
        }
        let choice = self.schedule.learned_variance(t);
        check(t, "ln β", choice.log_beta)?;
        check(t, "ln β̃", choice.log_beta_tilde)
    }

    /// The noise levels.
    pub fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    /// What the network predicts.
    pub fn parametrization(&self) -> Parametrization {
        self.parametrization
    }

    /// How the levels are weighted.
    pub fn weighting(&self) -> Weighting {
        self.weighting
    }

    /// The coefficients of x̂₀ = `x_t`·x_t + `output`·output at a level, each at most 10³² in size.
    ///
    /// # Panics
    ///
    /// If the network's output does not determine x̂₀ there
    /// ([`Parametrization::denoise`]), which is so at no level of the schedule.
    pub fn denoise(&self, level: NoiseLevel) -> Denoise {
        let denoise = self.parametrization.denoise(level);
        denoise.unwrap_or_else(|| {
            panic!(
                "{:?} does not determine x̂₀ where x_t = {}·x₀ + {}·ε",
                self.parametrization,
                level.signal(),
                level.noise()
            )
        })
    }

    /// The weight on ‖output − target‖² at t, at most 10³² and never negative.
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn weight(&self, t: Timestep) -> f64 {
        let (level, previous) = (self.schedule.level(t), self.schedule.previous(t));
        self.weighting
            .on_output(self.parametrization.inverse(level), level, previous)
    }
}

/// Whether tensors can be multiplied by a number of t.
fn check(t: Timestep, name: &'static str, value: f64) -> Result<(), ObjectiveError> {
    let t = t.get();
    fits(value)
        .then_some(())
        .ok_or(ObjectiveError::Coefficient { name, t, value })
}
