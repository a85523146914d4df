//! The levels that a reverse process visits, in order.

use crate::{GridError, NoiseLevel, NoiseSchedule};

/// Noise levels in order: those at which a step starts, and the one that the last step leads to.
///
/// The log-SNR rises at every step, from noise to data, or falls at every step
/// ([`inverse`](Self::inverse)). Each step is made of two levels that are there; nothing ever
/// computes "the previous timestep".
#[derive(Clone, PartialEq, Debug)]
pub struct Levels(Vec<NoiseLevel>);

impl Levels {
    /// Any levels in order, the end included.
    ///
    /// # Errors
    ///
    /// Unless there are at least two levels, the log-SNR strictly rises or strictly falls from
    /// the first to the last, and the first is not clean data.
    pub fn new(levels: impl IntoIterator<Item = NoiseLevel>) -> Result<Self, GridError> {
        let levels: Vec<_> = levels.into_iter().collect();
        let [first, .., last] = levels[..] else {
            return Err(GridError::NoSteps);
        };
        let (start, end) = (first.log_snr(), last.log_snr());
        for pair in levels.windows(2) {
            let (previous, log_snr) = (pair[0].log_snr(), pair[1].log_snr());
            if previous == log_snr || (log_snr > previous) != (end > start) {
                return Err(GridError::NotMonotone {
                    start,
                    end,
                    previous,
                    log_snr,
                });
            }
        }
        if start == f64::INFINITY {
            return Err(GridError::FromClean);
        }
        Ok(Self(levels))
    }

    /// T, T−1, …, 1 and clean data.
    pub fn full(schedule: &NoiseSchedule) -> Self {
        let levels = schedule.iter().rev().map(|t| schedule.level(t));
        Self(levels.chain([NoiseLevel::CLEAN]).collect())
    }

    /// The same way, as far as `end`: the levels before it, and a last step to it.
    ///
    /// # Errors
    ///
    /// Unless the first level comes before `end`.
    pub fn ending_at(&self, end: NoiseLevel) -> Result<Self, GridError> {
        let before = |level: &&NoiseLevel| {
            let (here, end) = (level.log_snr(), end.log_snr());
            if self.rises() { here < end } else { here > end }
        };
        Self::new(self.0.iter().take_while(before).copied().chain([end]))
    }

    /// The way back: the same levels in the opposite order (DDIM inversion; Song et al. 2020,
    /// §4.3).
    ///
    /// # Errors
    ///
    /// If these levels end at clean data; [`ending_at`](Self::ending_at) another level they can
    /// be taken back.
    pub fn inverse(&self) -> Result<Self, GridError> {
        Self::new(self.0.iter().rev().copied())
    }

    /// Whether the log-SNR rises, from noise to data.
    fn rises(&self) -> bool {
        self.end().log_snr() > self.start().log_snr()
    }

    /// The number of steps, at least 1.
    pub fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// Never: there is at least one step.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// All levels, the end included.
    pub fn as_slice(&self) -> &[NoiseLevel] {
        &self.0
    }

    /// The level of the first step.
    pub fn start(&self) -> NoiseLevel {
        self.0[0]
    }

    /// The level after the last step: [`NoiseLevel::CLEAN`] unless something else was asked for.
    pub fn end(&self) -> NoiseLevel {
        self.0[self.len()]
    }

    /// The steps (t, s), each from one level to the next.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (NoiseLevel, NoiseLevel)> + '_ {
        self.0.windows(2).map(|pair| (pair[0], pair[1]))
    }
}
