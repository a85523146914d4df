//! Why training cannot begin or go on.

use ddpm_data::DataError;
use ddpm_files::FileError;
use ddpm_model::ConditionError;
use ddpm_schedule::LossHistoryError;

use crate::diverged::Diverged;
use crate::ranks::RanksError;
use crate::settings_error::SettingsError;

/// Why training cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is out of its range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Rows cannot be read, or no batches can be made of them.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The data does not have the classes that the settings say.
    #[error("classes.count is {expected}, but the data has {}", found.map_or("no labels".to_owned(), |n| format!("{n} classes")))]
    Classes {
        /// The classes of the settings.
        expected: usize,
        /// The classes of the data.
        found: Option<usize>,
    },
    /// Rows have another rank than the network's input.
    #[error("the network takes rows of {expected} axes, the data has rows of shape {found:?}")]
    Rank {
        /// Axes of a row that the network takes.
        expected: usize,
        /// The shape of the data's rows.
        found: Vec<usize>,
    },
    /// The network takes other conditions than the settings give.
    #[error(transparent)]
    Condition(#[from] ConditionError),
    /// No parameter of the network requires gradients.
    #[error("the network has no parameter that is trained: all are frozen")]
    AllFrozen,
    /// The variance is learned by timesteps.
    #[error("learned_variance: the process has no timesteps")]
    NoTimesteps,
    /// The state of the optimizer cannot be read from its device.
    #[error("the state of the optimizer: {0}")]
    Optimizer(String),
    /// Another rank failed, or has another run.
    #[error(transparent)]
    Ranks(#[from] RanksError),
    /// A checkpoint cannot be read or made.
    #[error(transparent)]
    Checkpoint(#[from] FileError),
    /// A checkpoint is of another run.
    #[error("{key} is {there} in the checkpoint and {here} here: resumed, it would be another run")]
    Differs {
        /// The setting, or `data`.
        key: String,
        /// Its value in the checkpoint.
        there: String,
        /// Its value here.
        here: String,
    },
    /// The loss or the gradients are not finite. No step was done.
    #[error(transparent)]
    Diverged(Box<Diverged>),
    /// The checkpoint's record of losses is not that of the schedule, or a loss is not finite.
    #[error(transparent)]
    Losses(#[from] LossHistoryError),
}
