//! The error of grids and levels.

use thiserror::Error;

use crate::ParameterError;

/// Invalid arguments of a [`Grid`](crate::Grid) or of [`Levels`](crate::Levels).
///
/// ```
/// use ddpm_schedule::{Grid, Process};
///
/// let error = Grid::Trailing.levels(&Process::edm(0.002, 80.0)?, 0).unwrap_err();
/// assert_eq!(error.to_string(), "there must be at least one step, from one level to another");
/// # Ok::<(), ddpm_schedule::ParameterError>(())
/// ```
#[derive(Clone, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum GridError {
    /// There is no step: n = 0, or fewer than two levels.
    #[error("there must be at least one step, from one level to another")]
    NoSteps,
    /// More levels than the schedule has timesteps.
    #[error("a schedule of {timesteps} timesteps has no grid of {n}")]
    Length {
        /// The requested number of levels.
        n: usize,
        /// T.
        timesteps: u32,
    },
    /// The length of a list differs from n.
    #[error("{n} levels were requested, but {listed} are listed")]
    Count {
        /// The requested number of levels.
        n: usize,
        /// The length of the list.
        listed: usize,
    },
    /// The process has no level at a time.
    #[error("the process has no level at the time {time}")]
    Time {
        /// The network time refused.
        time: f64,
    },
    /// The process has no level with a given σ.
    #[error("the process has no level of σ = {sigma}")]
    Sigma {
        /// The value refused.
        sigma: f64,
    },
    /// The grid is spaced in σ = b/a, which is infinite at the start.
    #[error(
        "the first level has no signal: σ = b/a is infinite there and cannot be divided into steps"
    )]
    NoSignal,
    /// The levels are not strictly monotone.
    #[error("the log-SNR must be monotone from {start} to {end}, but {log_snr} follows {previous}")]
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
    /// The start of a grid is not noisier than its end.
    #[error("a grid must start noisier than it ends, but its log-SNR goes from {start} to {end}")]
    Backwards {
        /// The log-SNR of the first level.
        start: f64,
        /// The log-SNR of the end.
        end: f64,
    },
    /// The levels start at clean data.
    #[error("levels cannot start at clean data, which does not determine the noise")]
    FromClean,
    /// A parameter of a grid that is out of range.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// No grid has the name.
    #[error("there is no grid {name:?}; there are {known}")]
    Name {
        /// The name refused.
        name: String,
        /// The names of [`Grid::ALL`](super::Grid::ALL), separated by commas.
        known: String,
    },
}
