//! Where a grid starts and ends, and what its times mean.

use crate::NoiseLevel;

/// What a time between two timesteps of a schedule means to the grids that choose times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fractional {
    /// The nearest timestep.
    #[default]
    Round,
    /// The level of [`Process::level`](crate::Process::level), whose ln σ is interpolated.
    #[doc(alias = "log_linear")]
    LogSigma,
    /// The level whose σ is interpolated, as in diffusers' Euler, Heun and LMS.
    #[doc(alias = "interpolation_type")]
    Sigma,
}

/// Where a grid starts and ends, if not at the process's own ends.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct GridOptions {
    /// The first level. `None`: the noisiest of the process. A grid that leaves the noisiest
    /// times out starts here all the same.
    pub start: Option<NoiseLevel>,
    /// The level after the last step, which is the last point of the grid: n steps have n + 1
    /// points. `None`: n points, of which the last is the least noisy of the process, and then
    /// clean data.
    #[doc(alias = "final_sigmas_type")]
    pub end: Option<NoiseLevel>,
    /// What a time between two timesteps means.
    pub fractional: Fractional,
}
