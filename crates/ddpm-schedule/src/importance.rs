//! The distribution of the times that training visits, and the weights that correct for it.

use thiserror::Error;

use crate::{NoiseSchedule, Timestep};

/// The part of p_t that is uniform, so that ten small losses do not exclude a t (Nichol &
/// Dhariwal's code; their §3.3 omits it).
const UNIFORM_SHARE: f64 = 0.001;

/// The probabilities p_t of t = 1..=T, and the weights that correct for them.
///
/// ```
/// use ddpm_schedule::{NoiseSchedule, TimestepDistribution, stratified};
///
/// let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02)?;
/// let times = TimestepDistribution::uniform(&schedule);
/// let batch: Vec<u32> = stratified(0.5, 4).map(|u| times.quantile(u).get()).collect();
/// assert_eq!(batch, [126, 376, 626, 876]);
/// assert!((times.weight(schedule.first()) - 1.0).abs() < 1e-12);
/// # Ok::<(), ddpm_schedule::ScheduleError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct TimestepDistribution {
    /// Each t with p_1 + … + p_t.
    cumulative: Vec<(Timestep, f64)>,
}

/// The last [`LENGTH`](Self::LENGTH) losses of every t. Drawing t by their
/// [`distribution`](Self::distribution) minimizes the variance of the bound's Monte Carlo estimate
/// (Nichol & Dhariwal 2021, §3.3).
///
/// A checkpoint saves [`losses`](Self::losses), and [`from_losses`](Self::from_losses) restores
/// them.
///
/// ```
/// use ddpm_schedule::{LossHistory, NoiseSchedule};
///
/// let schedule = NoiseSchedule::random_walk(2, 1.0)?;
/// let mut history = LossHistory::new(&schedule);
/// for t in schedule.iter() {
///     for _ in 0..LossHistory::LENGTH {
///         history.record(t, f64::from(t.get()))?;
///     }
/// }
/// // p₂ is about twice p₁.
/// assert!((history.distribution().probability(schedule.last()) - 2.0 / 3.0).abs() < 1e-3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct LossHistory {
    /// The losses of each t, the latest last.
    losses: Vec<(Timestep, Vec<f64>)>,
}

/// Invalid losses of a [`LossHistory`].
///
/// ```
/// use ddpm_schedule::{LossHistory, NoiseSchedule};
///
/// let schedule = NoiseSchedule::random_walk(2, 1.0)?;
/// let error = LossHistory::from_losses(&schedule, [vec![0.5, f64::NAN], vec![]]).unwrap_err();
/// assert_eq!(error.to_string(), "the loss at t = 1 is NaN, not a finite number");
/// # Ok::<(), ddpm_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum LossHistoryError {
    /// A loss is not finite.
    #[error("the loss at t = {t} is {loss}, not a finite number")]
    Loss {
        /// The time, from 1.
        t: u32,
        /// The value refused.
        loss: f64,
    },
    /// The number of rows is not that of the schedule's timesteps.
    #[error("the history has {rows} timesteps, but the schedule has {timesteps}")]
    Timesteps {
        /// The number of rows given.
        rows: usize,
        /// T.
        timesteps: u32,
    },
    /// A timestep has more losses than are kept.
    #[error("the history at t = {t} has {length} losses, more than {max}", max = LossHistory::LENGTH)]
    Length {
        /// The time, from 1.
        t: u32,
        /// The number given.
        length: usize,
    },
}

impl LossHistory {
    /// How many losses of each t are kept.
    pub const LENGTH: usize = 10;

    /// An empty history for `schedule`.
    pub fn new(schedule: &NoiseSchedule) -> Self {
        Self {
            losses: schedule.iter().map(|t| (t, Vec::new())).collect(),
        }
    }

    /// The history with the given [`losses`](Self::losses) of t = 1, 2, …, T.
    ///
    /// # Errors
    ///
    /// Unless there is one row for each t of `schedule`, of at most
    /// [`LENGTH`](Self::LENGTH) finite losses.
    pub fn from_losses(
        schedule: &NoiseSchedule,
        rows: impl IntoIterator<Item = Vec<f64>>,
    ) -> Result<Self, LossHistoryError> {
        let rows: Vec<_> = rows.into_iter().collect();
        let timesteps = schedule.timesteps();
        if rows.len() != timesteps as usize {
            let rows = rows.len();
            return Err(LossHistoryError::Timesteps { rows, timesteps });
        }
        let mut history = Self::new(schedule);
        for (t, row) in schedule.iter().zip(rows) {
            if row.len() > Self::LENGTH {
                let (t, length) = (t.get(), row.len());
                return Err(LossHistoryError::Length { t, length });
            }
            for loss in row {
                history.record(t, loss)?;
            }
        }
        Ok(history)
    }

    /// Adds a loss of t, in place of the oldest if there are [`LENGTH`](Self::LENGTH).
    ///
    /// # Errors
    ///
    /// Unless `loss` is finite.
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn record(&mut self, t: Timestep, loss: f64) -> Result<(), LossHistoryError> {
        if !loss.is_finite() {
            let t = t.get();
            return Err(LossHistoryError::Loss { t, loss });
        }
        let losses = &mut self.losses[t.index() - 1].1;
        if losses.len() == Self::LENGTH {
            losses.remove(0);
        }
        losses.push(loss);
        Ok(())
    }

    /// The losses of t, the latest last.
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn losses(&self, t: Timestep) -> &[f64] {
        &self.losses[t.index() - 1].1
    }

    /// p_t ∝ √E(L_t²) over the losses kept, mixed with 0.001 of the uniform distribution. It is
    /// uniform until every t has [`LENGTH`](Self::LENGTH) losses, and if all losses are 0.
    pub fn distribution(&self) -> TimestepDistribution {
        // √E[L²] up to the factor √10, which is common to all t with full histories. `hypot` avoids
        // overflow.
        let norm = |losses: &[f64]| losses.iter().copied().fold(0.0, f64::hypot);
        let total: f64 = self.losses.iter().map(|(_, losses)| norm(losses)).sum();
        let full = self.losses.iter().all(|(_, l)| l.len() == Self::LENGTH);
        if !(full && total > 0.0 && total.is_finite()) {
            return TimestepDistribution::proportional(self.losses.iter().map(|&(t, _)| (t, 1.0)));
        }
        let uniform = UNIFORM_SHARE / self.losses.len() as f64;
        TimestepDistribution::proportional(self.losses.iter().map(|(t, losses)| {
            let share = norm(losses) / total;
            (*t, (1.0 - UNIFORM_SHARE) * share + uniform)
        }))
    }
}

impl TimestepDistribution {
    /// p_t = 1/T.
    pub fn uniform(schedule: &NoiseSchedule) -> Self {
        Self::proportional(schedule.iter().map(|t| (t, 1.0)))
    }

    /// The distribution proportional to weights > 0 with a finite sum.
    fn proportional(weights: impl Iterator<Item = (Timestep, f64)>) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<_> = weights
            .map(|(t, weight)| {
                sum += weight;
                (t, sum)
            })
            .collect();
        // Dividing the sums, not the weights, makes the sums t/T of the uniform distribution exact.
        for (_, share) in &mut cumulative {
            *share /= sum;
        }
        Self { cumulative }
    }

    /// p_t, above 0.
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn probability(&self, t: Timestep) -> f64 {
        let before = match t.index() {
            1 => 0.0,
            index => self.cumulative[index - 2].1,
        };
        self.cumulative[t.index() - 1].1 - before
    }

    /// 1/(T·p_t). With this weight on L_t, the mean over draws of t is an unbiased estimate of the
    /// mean over all t. It is 1 if p is uniform.
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn weight(&self, t: Timestep) -> f64 {
        (self.cumulative.len() as f64 * self.probability(t)).recip()
    }

    /// The first t with p_1 + … + p_t > `u`: for u uniform in [0, 1), a draw of t.
    ///
    /// If p is uniform, it is 1 + ⌊T·u⌋, which is ⌈T·u⌉ unless u is a multiple of 1/T. A `u` below
    /// 0 counts as 0, and a `u` from 1 on gives T.
    pub fn quantile(&self, u: f64) -> Timestep {
        let index = self.cumulative.partition_point(|&(_, share)| share <= u);
        self.cumulative[index.min(self.cumulative.len() - 1)].0
    }
}

/// (u + i)/n for i < n. Each is uniform in [0, 1) if `u` is, and together they cover the interval
/// evenly (Kingma et al. 2021, app. I.1).
///
/// Their [`quantile`](TimestepDistribution::quantile)s are the stratified times of a batch of n:
/// t_i = ⌈T·(u + i)/n⌉ if p is uniform. The mean loss over them varies less than over n independent
/// draws.
pub fn stratified(u: f64, n: u32) -> impl ExactSizeIterator<Item = f64> {
    (0..n).map(move |i| (u + f64::from(i)) / f64::from(n))
}
