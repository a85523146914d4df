//! Why levels are no way from noise to data or back.

use thiserror::Error;

use crate::ParameterError;

/// Levels that are no way from noise to data or back.
#[derive(Clone, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum GridError {
    /// No step: n = 0, or fewer than two levels.
    #[error("there must be at least one step, from one level to another")]
    NoSteps,
    /// More than a schedule has.
    #[error("a schedule of {timesteps} timesteps has no grid of {n}")]
    Length {
        /// The number asked for.
        n: usize,
        /// T.
        timesteps: u32,
    },
    /// A list of another length than was asked for.
    #[error("{n} levels were asked for, but {listed} are listed")]
    Count {
        /// The number asked for.
        n: usize,
        /// The length of the list.
        listed: usize,
    },
    /// A time that the process does not have.
    #[error("the process has no level at the time {time}")]
    Time {
        /// The time refused, as a network would be told it.
        time: f64,
    },
    /// A σ that the process does not have.
    #[error("the process has no level of σ = {sigma}")]
    Sigma {
        /// The value refused.
        sigma: f64,
    },
    /// Spaced in σ = b/a, which is infinite at the start.
    #[error("the first level has no signal, so that σ = b/a is infinite there and has no steps")]
    NoSignal,
    /// A level that does not lead on.
    #[error("the log-SNR must go one way from {start} to {end}, but {log_snr} follows {previous}")]
    NotMonotone {
        /// The log-SNR of the first level.
        start: f64,
        /// The log-SNR of the end.
        end: f64,
        /// The log-SNR before the level refused.
        previous: f64,
        /// The log-SNR of the level refused.
        log_snr: f64,
    },
    /// A grid that would start no noisier than it ends.
    #[error("a grid starts noisier than it ends, but its log-SNR goes from {start} to {end}")]
    Backwards {
        /// The log-SNR of the first level.
        start: f64,
        /// The log-SNR of the end.
        end: f64,
    },
    /// A way from data to noise that starts at the data itself.
    #[error("no step leads away from clean data, which says nothing of its noise")]
    FromClean,
    /// A parameter of a grid that is out of range.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// A name that no grid has.
    #[error("there is no grid {name:?}; there are {known}")]
    Name {
        /// The name refused.
        name: String,
        /// The names of [`Grid::ALL`](super::Grid::ALL), separated by commas.
        known: String,
    },
}
