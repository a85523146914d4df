//! Everything true of one scalar Gaussian on its way from data to noise and back.
//!
#![doc = include_str!("../README.md")]

mod level;
mod objective;
mod parametrization;
mod sampler;
mod schedule;
mod trajectory;
mod weighting;

pub use level::{LevelError, NoiseLevel, Posterior, Transition};
pub use objective::{Objective, ObjectiveError};
pub use parametrization::{Denoise, Parametrization, ParametrizationError, Target};
pub use sampler::{Eta, EtaError, Sampler, Step};
pub use schedule::{NoiseSchedule, ScheduleError, Timestep};
pub use trajectory::{Spacing, Trajectory, TrajectoryError};
pub use weighting::Weighting;
