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
mod settings_error;
mod trainer;

pub use diverged::{Bad, Diverged, Row};
pub use error::TrainError;
pub use settings::{Classes, Settings};
pub use settings_error::SettingsError;
pub use trainer::Trainer;
