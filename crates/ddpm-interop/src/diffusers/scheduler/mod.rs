//! Converts `scheduler_config.json` to this project's levels, parametrization and solvers, and
//! back.
//!
//! An absent key is diffusers' default. A key of another class of diffusers is ignored, with a
//! note: diffusers keeps the keys of the scheduler that one was made from. Any other unknown key is
//! an error. Where diffusers computes something other than its own settings describe, we follow the
//! settings; docs/peers.md lists these cases.

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
