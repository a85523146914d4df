//! A schedule, a parametrization and a weighting that fit together.

use thiserror::Error;

use crate::{
    Denoise, NoiseLevel, NoiseSchedule, Parametrization, ParametrizationError, Timestep, Weighting,
};

/// What a network is trained to predict, at which levels and with which weights.
///
/// One exists only if x̂₀ follows from the network's output at every time, and every
/// weight is finite.
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
    /// A weight beyond the range of f64.
    #[error("the weight of {weighting:?} at t = {t} is {weight}")]
    Weight {
        /// The weighting refused.
        weighting: Weighting,
        /// The first such time.
        t: u32,
        /// The weight there.
        weight: f64,
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
    /// If [`Parametrization::check`] fails, γ is not above 0, or a weight is not finite.
    pub fn new(
        schedule: NoiseSchedule,
        parametrization: Parametrization,
        weighting: Weighting,
    ) -> Result<Self, ObjectiveError> {
        parametrization.check(&schedule)?;
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
            let weight = objective.weight(t);
            if !weight.is_finite() {
                let t = t.get();
                return Err(ObjectiveError::Weight {
                    weighting,
                    t,
                    weight,
                });
            }
        }
        Ok(objective)
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

    /// The coefficients of x̂₀ = `x_t`·x_t + `output`·output at a level, always finite.
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

    /// The weight on ‖output − target‖² at t, finite and never negative.
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
