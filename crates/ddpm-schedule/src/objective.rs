//! A process, a parametrization and a weighting that fit together.

use thiserror::Error;

use crate::coefficient::fits;
use crate::{
    NoiseLevel, NoiseSchedule, ParameterError, Parametrization, ParametrizationError,
    Preconditioning, Process, Weighting, bound,
};

/// Levels of a continuous process at which an objective is checked, in equal steps of what
/// training draws.
const PROBES: u32 = 1000;

/// What a network is trained to predict, at which levels and with which weights.
///
/// One exists only if x̂₀ follows from the network's output at every level, and every number
/// that tensors are multiplied by is finite in single precision, with room for the product:
/// at most 10³² in size.
#[derive(Clone, PartialEq, Debug)]
pub struct Objective {
    process: Process,
    parametrization: Parametrization,
    weighting: Weighting,
}

/// A process, a parametrization and a weighting that do not fit together.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// The parametrization has no inverse at one of the levels.
    #[error(transparent)]
    Parametrization(#[from] ParametrizationError),
    /// A number of the weighting that is out of range.
    #[error("of the weighting, {0}")]
    Weighting(#[from] ParameterError),
    /// The bound's terms are those of steps, which a continuous process does not have.
    #[error(
        "the weights of the bound are those of the timesteps of a schedule, and this process has none"
    )]
    NoTimesteps,
    /// A number that tensors of single precision cannot be multiplied by.
    #[error(
        "{name} at t = {t} is {value:.2e}, which single precision has no room for: at most 1e32"
    )]
    Coefficient {
        /// What the number is.
        name: &'static str,
        /// The first such time: t = 1..=T of a schedule, and what a network is told of any other
        /// process.
        t: f64,
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
    /// If the parametrization does not determine x̂₀ at every level, a number of the weighting is
    /// out of its range, or it is that of the bound and the process has no timesteps. If at some
    /// level the signal a, the noise b, the weight or a coefficient of the bound with a learned
    /// variance is not finite or above 10³².
    pub fn new(
        process: impl Into<Process>,
        parametrization: Parametrization,
        weighting: Weighting,
    ) -> Result<Self, ObjectiveError> {
        let process = process.into();
        weighting.check()?;
        if weighting == Weighting::Vlb && process.schedule().is_none() {
            return Err(ObjectiveError::NoTimesteps);
        }
        let objective = Self {
            process,
            parametrization,
            weighting,
        };
        let levels = objective.levels();
        for &(t, level) in &levels {
            check(t, "the signal a", level.signal())?;
            check(t, "the noise b", level.noise())?;
        }
        for &(t, level) in &levels {
            objective.parametrization.check(level, t)?;
        }
        for &(t, level) in &levels {
            check(t, "the weight of the loss", objective.weight(level))?;
        }
        objective.check_bound()?;
        Ok(objective)
    }

    /// The levels to look at, each with its time.
    fn levels(&self) -> Vec<(f64, NoiseLevel)> {
        match &self.process {
            Process::Discrete(schedule) => {
                let of = |t: crate::Timestep| (f64::from(t.get()), schedule.level(t));
                schedule.iter().map(of).collect()
            }
            process => {
                let ends = process.ends();
                let [high, low] = [ends.0, ends.1].map(|level| process.clock(level));
                let step = (high - low) / f64::from(PROBES);
                let clocks = (1..PROBES).map(|i| low + f64::from(i) * step);
                let between = clocks.filter_map(|clock| process.level(process.shifted(clock)));
                let levels = [ends.1].into_iter().chain(between).chain([ends.0]);
                levels.map(|level| (process.time(level), level)).collect()
            }
        }
    }

    /// Whether the bound with a learned variance is finite, where the root of the weight
    /// multiplies the error of x̂₀.
    fn check_bound(&self) -> Result<(), ObjectiveError> {
        let Some(schedule) = self.process.schedule() else {
            return Ok(());
        };
        for t in schedule.iter() {
            let (level, previous) = (schedule.level(t), schedule.previous(t));
            let place = f64::from(t.get());
            if previous != NoiseLevel::CLEAN {
                let root = bound::snr_weight(level, previous).sqrt();
                check(place, "√(½(SNR_s − SNR_t)) of the bound", root)?;
            }
            let choice = schedule.learned_variance(t);
            check(place, "ln β", choice.log_beta)?;
            check(place, "ln β̃", choice.log_beta_tilde)?;
        }
        Ok(())
    }

    /// The noise levels.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The timesteps, if the process has any.
    pub fn schedule(&self) -> Option<&NoiseSchedule> {
        self.process.schedule()
    }

    /// What the network predicts.
    #[doc(alias = "prediction_type")]
    pub fn parametrization(&self) -> Parametrization {
        self.parametrization
    }

    /// How the levels are weighted.
    pub fn weighting(&self) -> Weighting {
        self.weighting
    }

    /// The coefficients of x̂₀ = c_skip·x_t + c_out·f(c_in·x_t) at a level, each at most 10³² in
    /// size.
    ///
    /// # Panics
    ///
    /// If the network's output does not determine x̂₀ there
    /// ([`Parametrization::preconditioning`]), which is so at no level of the process.
    pub fn preconditioning(&self, level: NoiseLevel) -> Preconditioning {
        let preconditioning = self.parametrization.preconditioning(level);
        preconditioning.unwrap_or_else(|| {
            panic!(
                "{:?} does not determine x̂₀ where x_t = {}·x₀ + {}·ε",
                self.parametrization,
                level.signal(),
                level.noise()
            )
        })
    }

    /// The weight on ‖output − target‖² at a level, at most 10³² and never negative.
    pub fn weight(&self, level: NoiseLevel) -> f64 {
        let previous = match self.schedule() {
            Some(schedule) => schedule.before(level),
            None => NoiseLevel::CLEAN,
        };
        self.weighting
            .on_output(self.parametrization, level, previous)
    }
}

/// Whether tensors can be multiplied by a number of t.
fn check(t: f64, name: &'static str, value: f64) -> Result<(), ObjectiveError> {
    fits(value)
        .then_some(())
        .ok_or(ObjectiveError::Coefficient { name, t, value })
}
