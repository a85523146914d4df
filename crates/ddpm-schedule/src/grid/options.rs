//! Where a grid starts and ends, and what its times mean.

use crate::NoiseLevel;

/// How grids of times treat a time between two timesteps of a schedule.
///
/// ```
/// use ddpm_schedule::{Fractional, Grid, GridOptions, NoiseSchedule, Process};
///
/// let process = Process::from(NoiseSchedule::linear(1000, 1e-4, 0.02)?);
/// let options = GridOptions { fractional: Fractional::LogSigma, ..GridOptions::default() };
/// let levels = Grid::Linspace.levels_with(&process, 5, options)?;
/// assert_eq!(process.time(levels.as_slice()[1]), 749.25); // 749 by default
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fractional {
    /// Round it to the nearest timestep.
    #[default]
    Round,
    /// Take the level of [`Process::level`](crate::Process::level), which interpolates ln σ.
    #[doc(alias = "log_linear")]
    LogSigma,
    /// Interpolate σ, as in diffusers' Euler, Heun and LMS.
    #[doc(alias = "interpolation_type")]
    Sigma,
}

/// Where a grid starts and ends, and how it treats fractional times.
///
/// ```
/// use ddpm_schedule::{Grid, GridOptions, NoiseLevel, NoiseSchedule, Process};
///
/// // SDEdit: the second half of the process.
/// let process = Process::from(NoiseSchedule::linear(1000, 1e-4, 0.02)?);
/// let start = process.level(499.0);
/// let options = GridOptions { start, ..GridOptions::default() };
/// let levels = Grid::Trailing.levels_with(&process, 10, options)?;
/// assert_eq!(Some(levels.start()), start);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct GridOptions {
    /// The first level, also of a grid that omits the noisiest times. `None`: the noisiest level of
    /// the process, unless the grid omits it.
    pub start: Option<NoiseLevel>,
    /// The level after the last step. `Some`: it is the last of the grid's n + 1 points. `None`:
    /// the grid has n points, the last of them the least noisy level of the process, and ends at
    /// clean data.
    #[doc(alias = "final_sigmas_type")]
    pub end: Option<NoiseLevel>,
    /// How a time between two timesteps is treated.
    pub fractional: Fractional,
}
