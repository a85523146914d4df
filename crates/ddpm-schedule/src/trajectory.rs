//! The times a sampler visits, from noise to data.

use thiserror::Error;

use crate::{NoiseLevel, NoiseSchedule, Timestep};

/// Strictly decreasing times of a schedule. After the last of them comes clean data.
///
/// A trajectory picks levels of its schedule and keeps their ᾱ; nothing ever computes
/// "the previous timestep".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trajectory {
    timesteps: Vec<Timestep>,
}

/// How N of T timesteps are chosen. Rounding is to nearest, ties to even, as NumPy's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spacing {
    /// t−1 = i·⌊T/N⌋ for i < N: ends at 1, and leaves the noisiest times out
    /// (Song et al. 2020, DDIM).
    Leading,
    /// t = round(T − i·T/N) for i < N: starts at T (Lin et al. 2023, §3.3).
    Trailing,
    /// t−1 = round(i·(T−1)/(N−1)) for i < N: starts at T and ends at 1; with N = 1 it
    /// is T.
    Linspace,
    /// t−1 = round((T−1)·(i/(N−1))²) for i < N, each made at least one more than the
    /// one before: dense where the noise is low (Song et al. 2020, app. D.2). It starts
    /// at T, as the paper has it; the paper's code starts at 0.8·T.
    Quadratic,
}

/// Times that are no trajectory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
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
}

impl Trajectory {
    /// T, T−1, …, 1.
    pub fn full(schedule: &NoiseSchedule) -> Self {
        Self {
            timesteps: schedule.iter().rev().collect(),
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

    /// The times as given, from noise to data.
    ///
    /// # Errors
    ///
    /// Unless there is at least one, all are in 1..=T and they strictly decrease.
    pub fn from_timesteps(
        schedule: &NoiseSchedule,
        times: impl IntoIterator<Item = u32>,
    ) -> Result<Self, TrajectoryError> {
        let mut timesteps: Vec<Timestep> = Vec::new();
        for t in times {
            let timestep = schedule.timestep(t).ok_or(TrajectoryError::OutOfRange {
                t,
                timesteps: schedule.timesteps(),
            })?;
            if let Some(previous) = timesteps.last().filter(|&&previous| previous <= timestep) {
                let previous = previous.get();
                return Err(TrajectoryError::NotDecreasing { previous, t });
            }
            timesteps.push(timestep);
        }
        if timesteps.is_empty() {
            return Err(TrajectoryError::Length {
                n: 0,
                timesteps: schedule.timesteps(),
            });
        }
        Ok(Self { timesteps })
    }

    /// The number of steps, at least 1.
    pub fn len(&self) -> usize {
        self.timesteps.len()
    }

    /// Never: a trajectory visits at least one time.
    pub fn is_empty(&self) -> bool {
        self.timesteps.is_empty()
    }

    /// The times, from noise to data.
    pub fn timesteps(&self) -> &[Timestep] {
        &self.timesteps
    }

    /// The steps (t, level of t, level of s) with s the time visited after t, and
    /// [`NoiseLevel::CLEAN`] after the last.
    ///
    /// # Panics
    ///
    /// While iterating, if `schedule` is shorter than the one this was made for.
    pub fn pairs<'a>(
        &'a self,
        schedule: &'a NoiseSchedule,
    ) -> impl ExactSizeIterator<Item = (Timestep, NoiseLevel, NoiseLevel)> + 'a {
        self.timesteps.iter().enumerate().map(|(i, &t)| {
            let s = self.timesteps.get(i + 1);
            let s = s.map_or(NoiseLevel::CLEAN, |&s| schedule.level(s));
            (t, schedule.level(t), s)
        })
    }
}

impl Spacing {
    /// Every spacing.
    pub const ALL: [Self; 4] = [
        Self::Leading,
        Self::Trailing,
        Self::Linspace,
        Self::Quadratic,
    ];

    /// `n` times of `schedule`.
    ///
    /// # Errors
    ///
    /// Unless 1 ≤ `n` ≤ T.
    pub fn trajectory(
        self,
        schedule: &NoiseSchedule,
        n: u32,
    ) -> Result<Trajectory, TrajectoryError> {
        let timesteps = schedule.timesteps();
        if !(1..=timesteps).contains(&n) {
            return Err(TrajectoryError::Length { n, timesteps });
        }
        Trajectory::from_timesteps(schedule, self.ascending(timesteps, n).into_iter().rev())
    }

    /// The times of 1 ≤ `n` ≤ `timesteps`, from data to noise.
    fn ascending(self, timesteps: u32, n: u32) -> Vec<u32> {
        let span = f64::from(timesteps - 1);
        // i of i/(N−1), which is 0/0 for N = 1: that one is 1/1, the noisiest.
        let steps = (n - 1).max(1);
        let i = (steps + 1 - n..=steps).map(f64::from);
        let steps = f64::from(steps);
        match self {
            Self::Leading => (0..n).map(|i| 1 + i * (timesteps / n)).collect(),
            Self::Trailing => (1..=n)
                .map(|i| round(f64::from(timesteps) * f64::from(i) / f64::from(n)))
                .collect(),
            Self::Linspace => i.map(|i| 1 + round(span * i / steps)).collect(),
            Self::Quadratic => i
                .scan(0, |previous, i| {
                    *previous = (1 + round(span * (i / steps).powi(2))).max(*previous + 1);
                    Some(*previous)
                })
                .collect(),
        }
    }
}

/// The nearest integer to a time in 0..=T.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "x is a fraction of some T: u32"
)]
fn round(x: f64) -> u32 {
    x.round_ties_even() as u32
}
