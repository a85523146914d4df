//! Everything true of one scalar Gaussian on its way from data to noise and back.
//!
#![doc = include_str!("../README.md")]

pub mod bound;
mod importance;
mod learned_variance;
mod level;
mod objective;
mod parametrization;
mod sampler;
mod schedule;
mod trajectory;
mod weighting;

pub use importance::{LossHistory, LossHistoryError, TimestepDistribution, stratified};
pub use learned_variance::LearnedVariance;
pub use level::{LevelError, NoiseLevel, Posterior, Transition};
pub use objective::{Objective, ObjectiveError};
pub use parametrization::{Denoise, Parametrization, ParametrizationError, Target};
pub use sampler::{Eta, EtaError, Sampler, Step};
pub use schedule::{NoiseSchedule, ScheduleError, Timestep};
pub use trajectory::{Spacing, Trajectory, TrajectoryError};
pub use weighting::Weighting;
