//! `scheduler_config.json`: the levels, the parametrization and the way of sampling, in this
//! project's terms, and back.
//!
//! An absent key is diffusers' default. A key of another class of diffusers is ignored, with a note:
//! diffusers keeps the keys of the scheduler that one was made from. Any other unknown key is an
//! error. Where diffusers computes something other than the mathematics of its own settings, the
//! settings are followed; docs/peers.md lists these places.

mod chain;
mod clock;
mod common;
mod consistency;
mod continuous;
mod denoiser;
mod difference;
mod export;
mod family;
mod multistep;
mod others;
mod pndm;
mod rule;
mod sigma;
mod way;

use std::path::Path;

use ddpm_process::{AfterClip, Clip};
use ddpm_schedule::solver::{Consistency, Ddpm};
use ddpm_schedule::{GridError, Levels, NoiseLevel, NoiseSchedule, Objective, Process};
use serde_json::{Value, json};

use super::DiffusersError;
use super::json::Keys;
use crate::plan::MOST_TIMESTEPS;
use others::{KEYS, REFUSED};
use way::Way;

pub use clock::{Boundary, Clock};
pub use denoiser::Told;
pub(super) use difference::difference;
pub use export::{Exported, config};
pub use pndm::Outputs;
pub use rule::Rule;

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
    rule: Rule,
    way: Way,
    /// What the network is told for a time 1 of the process.
    unit: f64,
    start: Start,
}

/// The standard deviation of x at the first level.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
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

/// What reads the keys of a class.
type Read = fn(&mut Keys) -> Result<Scheduler, DiffusersError>;

/// The classes that are followed.
const CLASSES: [(&str, Read); 27] = [
    ("DDPMScheduler", chain::ddpm),
    ("DDPMParallelScheduler", chain::ddpm),
    ("DDIMScheduler", chain::ddim),
    ("DDIMParallelScheduler", chain::ddim),
    ("UnCLIPScheduler", chain::unclip),
    ("PNDMScheduler", chain::pndm),
    ("IPNDMScheduler", chain::ipndm),
    ("EulerDiscreteScheduler", sigma::euler),
    ("EulerAncestralDiscreteScheduler", sigma::euler_ancestral),
    ("HeunDiscreteScheduler", sigma::heun),
    ("LMSDiscreteScheduler", sigma::lms),
    ("KDPM2DiscreteScheduler", sigma::kdpm2),
    ("KDPM2AncestralDiscreteScheduler", sigma::kdpm2_ancestral),
    ("DPMSolverMultistepScheduler", multistep::dpm_solver),
    ("DPMSolverMultistepInverseScheduler", multistep::inverse),
    ("DPMSolverSinglestepScheduler", multistep::single),
    ("DEISMultistepScheduler", multistep::deis),
    ("UniPCMultistepScheduler", multistep::unipc),
    ("SASolverScheduler", multistep::sa_solver),
    ("LCMScheduler", consistency::lcm),
    ("TCDScheduler", consistency::tcd),
    ("CMStochasticIterativeScheduler", consistency::cm),
    ("EDMEulerScheduler", continuous::edm_euler),
    ("EDMDPMSolverMultistepScheduler", continuous::edm_dpm_solver),
    ("FlowMatchEulerDiscreteScheduler", continuous::flow_euler),
    ("FlowMatchHeunDiscreteScheduler", continuous::flow_heun),
    ("FlowMatchLCMScheduler", continuous::flow_lcm),
];

impl Scheduler {
    /// Reads a file's text; `file` is what errors call it.
    ///
    /// # Errors
    ///
    /// If it is no JSON object, its `_class_name` is none that is followed, a key is one of no
    /// class, or a value is wrong or not supported.
    pub fn parse(text: &str, file: &str) -> Result<Self, DiffusersError> {
        Self::of(Keys::parse(text.as_bytes(), Path::new(file))?)
    }

    /// The classes of diffusers that are followed.
    pub fn classes() -> impl Iterator<Item = &'static str> {
        CLASSES.into_iter().map(|(name, _)| name)
    }

    pub(super) fn of(mut keys: Keys) -> Result<Self, DiffusersError> {
        let class = keys.take("_class_name", String::new())?;
        for key in ["_diffusers_version", "_name_or_path", "_use_default_values"] {
            keys.take::<Value>(key, Value::Null)?;
        }
        let found = CLASSES.iter().find(|(name, _)| *name == class);
        let Some((_, read)) = found else {
            let refused = REFUSED.iter().find(|(name, _)| *name == class);
            let names: Vec<_> = Self::classes().collect();
            let reason = match refused {
                Some((_, reason)) => (*reason).to_owned(),
                None => format!("supported are {}", names.join(", ")),
            };
            return Err(keys.bad("_class_name", &json!(class), &reason));
        };
        let mut scheduler = read(&mut keys)?;
        scheduler.note = keys.ignore(&KEYS, &format!("keys that a {class} does not have"));
        keys.finish()?;
        Ok(scheduler)
    }

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
