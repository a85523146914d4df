//! The scalar mathematics of diffusion models: levels, schedules, objectives, grids and solvers.
//!
#![doc = include_str!("../README.md")]

pub mod bound;
mod coefficient;
mod grid;
mod importance;
mod learned_variance;
mod level;
mod levels;
mod objective;
mod parameter;
mod parametrization;
mod process;
mod quantile;
mod schedule;
pub mod solver;
mod training_levels;
mod weighting;

pub use grid::{Fractional, Grid, GridError, GridOptions};
pub use importance::{LossHistory, LossHistoryError, TimestepDistribution, stratified};
pub use learned_variance::LearnedVariance;
pub use level::{LevelError, NoiseLevel, Posterior, Transition};
pub use levels::Levels;
pub use objective::{Objective, ObjectiveError};
pub use parameter::ParameterError;
pub use parametrization::{Parametrization, ParametrizationError, Preconditioning, Target};
pub use process::Process;
pub use schedule::{NoiseSchedule, ScheduleError, Timestep};
pub use training_levels::{LevelDistribution, TrainingLevels};
pub use weighting::Weighting;
