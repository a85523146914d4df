//! A process, a parametrization and a weighting that fit together.

use thiserror::Error;

use crate::coefficient::fits;
use crate::{
    NoiseLevel, NoiseSchedule, ParameterError, Parametrization, ParametrizationError,
    Preconditioning, Process, Weighting, bound,
};

/// An objective of a continuous process is checked at this many equal steps of the unshifted time.
const PROBES: u32 = 1000;

/// A training objective: a process, a parametrization and a weighting, checked to fit together.
///
/// At every level the network's output determines x̂₀, and every number by which tensors are
/// multiplied is at most 10³² in magnitude, so that products are finite in single precision.
///
/// ```
/// use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
///
/// let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02)?;
/// let objective = Objective::new(schedule.clone(), Parametrization::Epsilon, Weighting::Simple)?;
/// let level = schedule.level(schedule.last());
/// assert_eq!(objective.weight(level), 1.0);
/// assert_eq!(objective.preconditioning(level).c_skip, 1.0 / level.signal());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Objective {
    process: Process,
    parametrization: Parametrization,
    weighting: Weighting,
}

/// A process, a parametrization and a weighting that do not fit together.
///
/// ```
/// use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
///
/// // At zero SNR x_t is ε, so ε̂ does not determine x̂₀.
/// let schedule = NoiseSchedule::linear(4, 0.1, 0.5)?.rescale_zero_terminal_snr()?;
/// let error = Objective::new(schedule, Parametrization::Epsilon, Weighting::Simple).unwrap_err();
/// let message = "Epsilon does not determine x̂₀ at t = 4, where x_t = 0·x₀ + 1·ε";
/// assert_eq!(error.to_string(), message);
/// # Ok::<(), ddpm_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// The parametrization has no inverse at one of the levels.
    #[error(transparent)]
    Parametrization(#[from] ParametrizationError),
    /// A parameter of the weighting is out of range.
    #[error("the weighting's {0}")]
    Weighting(#[from] ParameterError),
    /// The weighting is that of the bound, which has one term per timestep, and the process has no
    /// timesteps.
    #[error("the weights of the bound need the timesteps of a schedule, and this process has none")]
    NoTimesteps,
    /// A coefficient is too large for single precision.
    #[error("{name} at t = {t} is {value:.2e}, but single precision allows at most 1e32")]
    Coefficient {
        /// The name of the coefficient.
        name: &'static str,
        /// The first such time: t = 1..=T of a schedule, the network time of any other process.
        t: f64,
        /// Its value there.
        value: f64,
    },
}

impl Objective {
    /// Checks that the three fit together.
    ///
    /// At zero SNR the weights take their limits: with x₀ and v, min-SNR is 0 there
    /// and the bound's weight is that of SNR_t = 0.
    ///
    /// # Errors
    ///
    /// If the parametrization does not determine x̂₀ at every level; if a parameter of the
    /// weighting is out of range; if the weighting is [`Vlb`](Weighting::Vlb) and the process has
    /// no timesteps; or if at some level the signal a, the noise b, the weight or a coefficient of
    /// the bound with a learned variance is not finite or above 10³².
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

    /// The levels to check, each with its time.
    fn levels(&self) -> Vec<(f64, NoiseLevel)> {
        match &self.process {
            Process::Discrete(schedule) => {
                let of = |t: crate::Timestep| (f64::from(t.get()), schedule.level(t));
                schedule.iter().map(of).collect()
            }
            process => {
                let ends = process.ends();
                let [high, low] = [ends.0, ends.1].map(|level| process.unshifted(level));
                let step = (high - low) / f64::from(PROBES);
                let times = (1..PROBES).map(|i| low + f64::from(i) * step);
                let between = times.filter_map(|time| process.level(process.shifted(time)));
                let levels = [ends.1].into_iter().chain(between).chain([ends.0]);
                levels.map(|level| (process.time(level), level)).collect()
            }
        }
    }

    /// Checks that the bound with a learned variance is finite. There the root of the weight
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
    /// magnitude.
    ///
    /// # Panics
    ///
    /// If the network's output does not determine x̂₀ at `level`
    /// ([`Parametrization::preconditioning`]). At the levels of the process it always does.
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

/// Checks that tensors can be multiplied by `value`, which belongs to t.
fn check(t: f64, name: &'static str, value: f64) -> Result<(), ObjectiveError> {
    fits(value)
        .then_some(())
        .ok_or(ObjectiveError::Coefficient { name, t, value })
}
