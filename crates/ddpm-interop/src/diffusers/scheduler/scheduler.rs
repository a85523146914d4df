//! The content of a `scheduler_config.json`.

use ddpm_process::{AfterClip, Clip};
use ddpm_schedule::solver::{Consistency, Ddpm};
use ddpm_schedule::{GridError, Levels, NoiseLevel, NoiseSchedule, Objective, Process};

use super::clock::{Boundary, Clock};
use super::rule::Rule;
use super::way::Way;

/// The maximum number of timesteps. No network was trained with a longer schedule.
pub const MOST_TIMESTEPS: u32 = 1_000_000;

/// The content of a `scheduler_config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduler {
    /// The levels and the prediction of the network. The file has no weighting; it is set to the
    /// simple one.
    pub objective: Objective,
    /// Whether the network has a second output per value of a row, for its variance
    /// ([`ddpm_schedule::LearnedVariance`]). A sampler without noise ignores it.
    pub learned_variance: bool,
    /// The range to which x̂₀ is clipped.
    pub clip: Option<Clip>,
    /// The ε̂ that is used after x̂₀ is clipped.
    pub epsilon: AfterClip,
    /// The boundary condition of a consistency model.
    pub boundary: Option<Boundary>,
    /// Whether the network predicts the negative of the parametrization's target, as with
    /// `v_prediction` in diffusers' classes of EDM.
    pub negated: bool,
    /// The ignored keys and the reason, in one sentence that names the file.
    pub note: Option<String>,
    /// The solver, before the number of steps is known.
    pub(super) rule: Rule,
    pub(super) way: Way,
    /// The network's time for the time 1 of the process.
    pub(super) unit: f64,
    pub(super) start: Start,
}

/// The standard deviation of x at the first level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Start {
    /// 1, whatever the level.
    One,
    /// √(a² + b²).
    Prior,
    /// b.
    Noise,
}

/// Why a number of steps is not possible.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepsError {
    /// The grid has no levels for it.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// It is more than the timesteps of any schedule.
    #[error("{0} steps are more than {MOST_TIMESTEPS}")]
    Most(u32),
}

impl Scheduler {
    /// The levels of `n` steps according to the file. A step that would stay at its level is left
    /// out, so there may be one level fewer.
    ///
    /// # Errors
    ///
    /// If there are fewer times than steps, an offset is beyond T, or `n` is more than a million.
    pub fn levels(&self, n: u32) -> Result<Levels, StepsError> {
        if n > MOST_TIMESTEPS {
            return Err(StepsError::Most(n));
        }
        Ok(self.way.levels(self.process(), n as usize)?)
    }

    /// The solver for these levels.
    pub fn rule(&self, levels: &Levels) -> Rule {
        let steps = levels.len();
        let one_more = self.way.levels(self.process(), steps + 1);
        let standing = one_more.is_ok_and(|same| same == *levels);
        self.rule.clone().along(steps, usize::from(standing))
    }

    /// The network's times at these levels, and elsewhere.
    pub fn clock(&self, levels: &Levels) -> Clock {
        let times = self.way.times(self.process(), levels);
        let told = times.into_iter().map(|time| time * self.unit);
        Clock {
            process: self.process().clone(),
            unit: self.unit,
            known: levels.as_slice().iter().copied().zip(told).collect(),
        }
    }

    /// The standard deviation of x at the first level.
    #[doc(alias = "init_noise_sigma")]
    pub fn prior_std(&self, first: NoiseLevel) -> f64 {
        match self.start {
            Start::One => 1.0,
            Start::Prior => first.prior_std(),
            Start::Noise => first.noise(),
        }
    }

    /// The number of steps that diffusers' pipelines take: all timesteps for DDPM, four for a
    /// distilled consistency model, and fifty otherwise.
    pub fn default_steps(&self) -> u32 {
        let timesteps = self.objective.schedule().map(NoiseSchedule::timesteps);
        match (&self.rule, timesteps) {
            (Rule::Ddpm(Ddpm { .. }), Some(timesteps)) => timesteps,
            (Rule::Consistency(Consistency { .. }) | Rule::Tcd { .. }, _) => 4,
            _ => 50,
        }
    }

    fn process(&self) -> &Process {
        self.objective.process()
    }
}

/// A file, and the times of its network at some levels.
#[derive(Clone, Debug, PartialEq)]
pub struct Following {
    /// The file.
    pub scheduler: Scheduler,
    /// The times of its network.
    pub clock: Clock,
}

impl Following {
    /// The file with the times at these levels.
    pub fn new(scheduler: Scheduler, levels: &Levels) -> Self {
        Self {
            clock: scheduler.clock(levels),
            scheduler,
        }
    }
}
