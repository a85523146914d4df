//! Training of diffusion models.
#![doc = ""]
#![doc = include_str!("../README.md")]

mod batch_loss;
pub mod checkpoint;
pub mod device;
mod diverged;
pub mod ema;
mod error;
pub mod level_draws;
pub mod metrics;
pub mod optim;
pub mod params;
pub mod ranks;
mod settings;
mod trainer;

pub use diverged::{Bad, Diverged, Row};
pub use error::TrainError;
pub use settings::{Classes, Settings, SettingsError};
pub use trainer::Trainer;
