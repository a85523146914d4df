//! `scheduler_config.json`: the levels, the parametrization and the way of sampling, in this
//! project's terms, and back.
//!
//! An absent key is diffusers' default. A key of another class of diffusers is ignored, with a note:
//! diffusers keeps the keys of the scheduler that one was made from. Any other unknown key is an
//! error. Where diffusers computes something other than the mathematics of its own settings, the
//! settings are followed; docs/peers.md lists these places.

mod chain;
mod classes;
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
#[allow(clippy::module_inception)] // It holds `Scheduler`.
mod scheduler;
mod sigma;
mod way;

pub use clock::{Boundary, Clock};
pub use denoiser::Told;
pub(super) use difference::difference;
pub use export::{Betas, Exported, Sampled, config};
pub use pndm::Outputs;
pub use rule::Rule;
pub use scheduler::{Following, MOST_TIMESTEPS, Scheduler, StepsError};
