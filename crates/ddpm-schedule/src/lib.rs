//! Everything true of one scalar Gaussian on its way from data to noise and back.
//!
#![doc = include_str!("../README.md")]

pub mod bound;
mod coefficient;
mod importance;
mod learned_variance;
mod level;
mod objective;
mod parametrization;
mod sampler;
mod schedule;
pub mod solver;
mod spacing;
mod trajectory;
mod visit;
mod weighting;

pub use importance::{LossHistory, LossHistoryError, TimestepDistribution, stratified};
pub use learned_variance::LearnedVariance;
pub use level::{LevelError, NoiseLevel, Posterior, Transition};
pub use objective::{Objective, ObjectiveError};
pub use parametrization::{Denoise, Parametrization, ParametrizationError, Target};
pub use sampler::{Eta, EtaError, Sampler, SamplerError, Step};
pub use schedule::{NoiseSchedule, ScheduleError, Timestep};
pub use spacing::Spacing;
pub use trajectory::{Trajectory, TrajectoryError};
pub use visit::Visit;
pub use weighting::Weighting;
