//! What a `scheduler_config.json` says.

use ddpm_process::{AfterClip, Clip};
use ddpm_schedule::solver::{Consistency, Ddpm};
use ddpm_schedule::{GridError, Levels, NoiseLevel, NoiseSchedule, Objective, Process};

use super::clock::{Boundary, Clock};
use super::rule::Rule;
use super::way::Way;

/// Timesteps beyond these would be a table of a size that no network was trained on.
pub const MOST_TIMESTEPS: u32 = 1_000_000;

/// What a `scheduler_config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduler {
    /// The levels and what the network predicts; the weighting, of which the file says nothing,
    /// is the simple one.
    pub objective: Objective,
    /// Whether the network has a second output for each number of a row, of its variance
    /// ([`ddpm_schedule::LearnedVariance`]). A sampler without noise leaves it out.
    pub learned_variance: bool,
    /// The range x̂₀ is kept in.
    pub clip: Option<Clip>,
    /// The ε̂ that goes on once x̂₀ is clipped.
    pub epsilon: AfterClip,
    /// What x̂₀ becomes in a consistency model.
    pub boundary: Option<Boundary>,
    /// Whether the network predicts the opposite of what the parametrization says: the velocity
    /// that diffusers' classes of EDM name `v_prediction`.
    pub negated: bool,
    /// Which keys were ignored and why, in one sentence that names the file.
    pub note: Option<String>,
    /// The solver, before it knows how many steps there are.
    pub(super) rule: Rule,
    pub(super) way: Way,
    /// What the network is told for a time 1 of the process.
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

/// Why so many steps cannot be taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepsError {
    /// They have no levels.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// More than any schedule has timesteps.
    #[error("{0} steps are more than {MOST_TIMESTEPS}")]
    Most(u32),
}

impl Scheduler {
    /// The levels of `n` steps as the file lays them out. A step that would stay at its level is
    /// left out, so that there may be one fewer.
    ///
    /// # Errors
    ///
    /// If the way has no such levels: fewer times than steps, or an offset beyond T; and for more
    /// than a million.
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

    /// What the network is told at each of these levels, and elsewhere.
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

    /// As many steps as diffusers' pipelines take: all of DDPM's timesteps, four of a consistency
    /// model that was distilled, and fifty otherwise.
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

/// A file and what its network is told along some levels.
#[derive(Clone, Debug, PartialEq)]
pub struct Following {
    /// The file.
    pub scheduler: Scheduler,
    /// What its network is told.
    pub clock: Clock,
}

impl Following {
    /// The file along these levels.
    pub fn new(scheduler: Scheduler, levels: &Levels) -> Self {
        Self {
            clock: scheduler.clock(levels),
            scheduler,
        }
    }
}
