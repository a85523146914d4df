//! The levels a sampler visits, from noise to data or back.

use thiserror::Error;

use crate::{NoiseLevel, NoiseSchedule, Spacing, Visit};

/// Noise levels in order, each with the time its network is told, and the level they lead to.
///
/// The log-SNR rises at every step, from noise to data, or falls at every step
/// ([`inverse`](Self::inverse)). Each step is made of two levels that are there; nothing ever
/// computes "the previous timestep".
#[derive(Clone, PartialEq, Debug)]
pub struct Trajectory {
    visits: Vec<Visit>,
    end: NoiseLevel,
}

/// Levels that are no trajectory.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum TrajectoryError {
    /// None, or more than the schedule has.
    #[error("a trajectory visits 1 to {timesteps} of the {timesteps} timesteps, not {n}")]
    Length {
        /// The number asked for.
        n: u32,
        /// T.
        timesteps: u32,
    },
    /// A time the schedule does not have.
    #[error("t = {t} is outside 1..={timesteps}")]
    OutOfRange {
        /// The time refused.
        t: u32,
        /// T.
        timesteps: u32,
    },
    /// A time that is not below the one visited before it.
    #[error("times must decrease, but t = {t} follows t = {previous}")]
    NotDecreasing {
        /// The time before.
        previous: u32,
        /// The time refused.
        t: u32,
    },
    /// No level to visit.
    #[error("a trajectory visits at least one level before its end, where the log-SNR is {end}")]
    Empty {
        /// The log-SNR of the end.
        end: f64,
    },
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
    /// A way from data to noise that starts at the data itself.
    #[error("no step leads away from clean data, which says nothing of its noise")]
    FromClean,
    /// Spaced in σ = b/a, which is infinite at T.
    #[error("t = {t} has no signal, so that σ = b/a is infinite there and has no equal steps")]
    NoSignal {
        /// T.
        t: u32,
    },
}

impl Trajectory {
    /// Any levels in order, and the one that the last step leads to.
    ///
    /// # Errors
    ///
    /// Unless there is a visit, the log-SNR strictly rises or strictly falls all the way to
    /// `end`, and no visit is of clean data.
    pub fn new(
        visits: impl IntoIterator<Item = Visit>,
        end: NoiseLevel,
    ) -> Result<Self, TrajectoryError> {
        let visits: Vec<_> = visits.into_iter().collect();
        let lambdas = visits.iter().map(|visit| visit.level.log_snr());
        let lambdas: Vec<_> = lambdas.chain([end.log_snr()]).collect();
        let (start, end_lambda) = (lambdas[0], end.log_snr());
        if visits.is_empty() {
            return Err(TrajectoryError::Empty { end: end_lambda });
        }
        let rises = end_lambda > start;
        for pair in lambdas.windows(2) {
            let (previous, log_snr) = (pair[0], pair[1]);
            if previous == log_snr || (log_snr > previous) != rises {
                return Err(TrajectoryError::NotMonotone {
                    start,
                    end: end_lambda,
                    previous,
                    log_snr,
                });
            }
        }
        if start == f64::INFINITY {
            return Err(TrajectoryError::FromClean);
        }
        Ok(Self { visits, end })
    }

    /// T, T−1, …, 1.
    pub fn full(schedule: &NoiseSchedule) -> Self {
        Self {
            visits: schedule.iter().rev().map(|t| schedule.visit(t)).collect(),
            end: NoiseLevel::CLEAN,
        }
    }

    /// `n` times by [`Spacing::Leading`].
    ///
    /// # Errors
    ///
    /// Unless 1 ≤ `n` ≤ T.
    pub fn leading(schedule: &NoiseSchedule, n: u32) -> Result<Self, TrajectoryError> {
        Spacing::Leading.trajectory(schedule, n)
    }

    /// `n` times by [`Spacing::Trailing`].
    ///
    /// # Errors
    ///
    /// Unless 1 ≤ `n` ≤ T.
    pub fn trailing(schedule: &NoiseSchedule, n: u32) -> Result<Self, TrajectoryError> {
        Spacing::Trailing.trajectory(schedule, n)
    }

    /// `n` times by [`Spacing::Linspace`].
    ///
    /// # Errors
    ///
    /// Unless 1 ≤ `n` ≤ T.
    pub fn linspace(schedule: &NoiseSchedule, n: u32) -> Result<Self, TrajectoryError> {
        Spacing::Linspace.trajectory(schedule, n)
    }

    /// `n` times by [`Spacing::Quadratic`].
    ///
    /// # Errors
    ///
    /// Unless 1 ≤ `n` ≤ T.
    pub fn quadratic(schedule: &NoiseSchedule, n: u32) -> Result<Self, TrajectoryError> {
        Spacing::Quadratic.trajectory(schedule, n)
    }

    /// The times as given, from noise to clean data.
    ///
    /// # Errors
    ///
    /// Unless there is at least one, all are in 1..=T and they strictly decrease.
    pub fn from_timesteps(
        schedule: &NoiseSchedule,
        times: impl IntoIterator<Item = u32>,
    ) -> Result<Self, TrajectoryError> {
        let timesteps = schedule.timesteps();
        let mut visits: Vec<Visit> = Vec::new();
        for t in times {
            let timestep = schedule
                .timestep(t)
                .ok_or(TrajectoryError::OutOfRange { t, timesteps })?;
            if let Some(previous) = visits.last().filter(|previous| previous.t <= timestep) {
                let previous = previous.t.get();
                return Err(TrajectoryError::NotDecreasing { previous, t });
            }
            visits.push(schedule.visit(timestep));
        }
        if visits.is_empty() {
            return Err(TrajectoryError::Length { n: 0, timesteps });
        }
        Ok(Self {
            visits,
            end: NoiseLevel::CLEAN,
        })
    }

    /// The same way, as far as `end`: the visits before it, and a last step to it.
    ///
    /// # Errors
    ///
    /// Unless the first visit comes before `end`.
    pub fn ending_at(&self, end: NoiseLevel) -> Result<Self, TrajectoryError> {
        let before = |visit: &&Visit| {
            let (here, end) = (visit.level.log_snr(), end.log_snr());
            if self.rises() { here < end } else { here > end }
        };
        Self::new(self.visits.iter().take_while(before).copied(), end)
    }

    /// The way back. A step from x_t to x_s is undone with what the network says of the x at
    /// hand, x_s, told the time that it was told at x_t: the first iterate of the equation
    /// that the undone x_t solves (DDIM inversion; Song et al. 2020, §4.3).
    ///
    /// The way back from the way back is the way there.
    ///
    /// # Errors
    ///
    /// If this trajectory ends at clean data; [`ending_at`](Self::ending_at) another level it
    /// can be undone.
    pub fn inverse(&self) -> Result<Self, TrajectoryError> {
        let undone = self.pairs().map(|(t, s)| Visit { t: t.t, level: s });
        let mut visits: Vec<_> = undone.collect();
        visits.reverse();
        Self::new(visits, self.visits[0].level)
    }

    /// Whether the log-SNR rises, from noise to data.
    fn rises(&self) -> bool {
        self.end.log_snr() > self.visits[0].level.log_snr()
    }

    /// The number of steps, at least 1.
    pub fn len(&self) -> usize {
        self.visits.len()
    }

    /// Never: a trajectory visits at least one level.
    pub fn is_empty(&self) -> bool {
        self.visits.is_empty()
    }

    /// The levels at which the denoiser is asked, at least one.
    pub fn visits(&self) -> &[Visit] {
        &self.visits
    }

    /// The level after the last step: [`NoiseLevel::CLEAN`] unless something else was asked for.
    pub fn end(&self) -> NoiseLevel {
        self.end
    }

    /// The steps (t, s) from one visit to the level of the next, or to the end.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (Visit, NoiseLevel)> + '_ {
        self.visits.iter().enumerate().map(|(i, &t)| {
            let s = self.visits.get(i + 1);
            (t, s.map_or(self.end, |s| s.level))
        })
    }
}
