//! The levels that a reverse process visits, in order.

use crate::{GridError, NoiseLevel, NoiseSchedule};

/// The noise levels of a run, in order: the start of each step, and the end of the last step.
///
/// The log-SNR rises at every step, from noise to data, or falls at every step
/// ([`inverse`](Self::inverse)). A step is a pair of neighbouring levels; no code computes "the
/// previous timestep".
///
/// ```
/// use ddpm_schedule::{Grid, Levels, NoiseLevel, NoiseSchedule, Process};
///
/// let schedule = NoiseSchedule::cosine(1000, 0.008)?;
/// assert_eq!(Levels::full(&schedule).len(), 1000); // ancestral sampling
/// let levels = Grid::Trailing.levels(&Process::from(schedule), 20)?;
/// let (t, s) = levels.pairs().next().unwrap();
/// assert!(s.log_snr() > t.log_snr());
/// assert_eq!(levels.end(), NoiseLevel::CLEAN);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Levels(Vec<NoiseLevel>);

impl Levels {
    /// The levels of a run in order, including the end.
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

    /// The levels of t = T, T−1, …, 1, then clean data.
    pub fn full(schedule: &NoiseSchedule) -> Self {
        let levels = schedule.iter().rev().map(|t| schedule.level(t));
        Self(levels.chain([NoiseLevel::CLEAN]).collect())
    }

    /// The levels that come before `end`, then `end`.
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

    /// The same levels in reverse order (DDIM inversion; Song et al. 2020, §4.3).
    ///
    /// # Errors
    ///
    /// If these levels end at clean data. [`ending_at`](Self::ending_at) makes them end at a noisy
    /// level.
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

    /// Always false: there is at least one step.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// All levels, including the end.
    pub fn as_slice(&self) -> &[NoiseLevel] {
        &self.0
    }

    /// The level at which the first step starts.
    pub fn start(&self) -> NoiseLevel {
        self.0[0]
    }

    /// The level after the last step, usually [`NoiseLevel::CLEAN`].
    pub fn end(&self) -> NoiseLevel {
        self.0[self.len()]
    }

    /// The steps (t, s), each from one level to the next.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (NoiseLevel, NoiseLevel)> + '_ {
        self.0.windows(2).map(|pair| (pair[0], pair[1]))
    }
}
