//! The classes of diffusers, by name.

use std::path::Path;

use serde_json::{Value, json};

use super::others::{KEYS, REFUSED};
use super::scheduler::Scheduler;
use super::{chain, consistency, continuous, multistep, sigma};
use crate::diffusers::error::DiffusersError;
use crate::diffusers::json::Keys;

/// Reads the keys of a class.
type Read = fn(&mut Keys) -> Result<Scheduler, DiffusersError>;

/// The supported classes.
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
    /// Parses a file's text; errors name `file`.
    ///
    /// # Errors
    ///
    /// If it is not a JSON object, its `_class_name` is not supported, a key belongs to no class,
    /// or a value is wrong or not supported.
    pub fn parse(text: &str, file: &str) -> Result<Self, DiffusersError> {
        Self::of(Keys::parse(text.as_bytes(), Path::new(file))?)
    }

    /// The supported classes of diffusers.
    pub fn classes() -> impl Iterator<Item = &'static str> {
        CLASSES.into_iter().map(|(name, _)| name)
    }

    pub(in crate::diffusers) fn of(mut keys: Keys) -> Result<Self, DiffusersError> {
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
}
