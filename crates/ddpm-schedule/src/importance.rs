//! Which t a training step visits, and what its loss then counts.

use thiserror::Error;

use crate::{NoiseSchedule, Timestep};

/// What every t keeps of a uniform share, so that none is given up for good on the
/// strength of ten small losses (Nichol & Dhariwal's code; their §3.3 leaves it out).
const UNIFORM_SHARE: f64 = 0.001;

/// p_t for t = 1..=T, and the weights that make up for it.
#[derive(Clone, PartialEq, Debug)]
pub struct TimestepDistribution {
    /// Each t with p_1 + … + p_t.
    cumulative: Vec<(Timestep, f64)>,
}

/// The last [`LENGTH`](Self::LENGTH) losses of every t, by which t is drawn such that
/// the bound's Monte Carlo estimate varies least (Nichol & Dhariwal 2021, §3.3).
///
/// It is a plain value: a checkpoint keeps [`losses`](Self::losses) and
/// [`from_losses`](Self::from_losses) brings them back.
#[derive(Clone, PartialEq, Debug)]
pub struct LossHistory {
    /// Of each t its losses, the latest at the end.
    losses: Vec<(Timestep, Vec<f64>)>,
}

/// Losses that make no history.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum LossHistoryError {
    /// A loss that no mean survives.
    #[error("the loss at t = {t} is {loss}, not a finite number")]
    Loss {
        /// The time, from 1.
        t: u32,
        /// The value refused.
        loss: f64,
    },
    /// A history of another schedule.
    #[error("the history has {rows} timesteps, but the schedule {timesteps}")]
    Timesteps {
        /// The number of rows given.
        rows: usize,
        /// T.
        timesteps: u32,
    },
    /// More losses than are kept.
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

    /// No losses yet, for any t of `schedule`.
    pub fn new(schedule: &NoiseSchedule) -> Self {
        Self {
            losses: schedule.iter().map(|t| (t, Vec::new())).collect(),
        }
    }

    /// The history whose [`losses`](Self::losses) of t = 1, 2, …, T are given.
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

    /// Adds a loss of t, the oldest making room.
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

    /// The losses kept of t, the latest at the end.
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn losses(&self, t: Timestep) -> &[f64] {
        &self.losses[t.index() - 1].1
    }

    /// p_t ∝ √E(L_t²) over the losses kept, mixed with 0.001 of uniform; uniform alone
    /// until every t has [`LENGTH`](Self::LENGTH) of them, and where all of them are 0.
    pub fn distribution(&self) -> TimestepDistribution {
        // √E[L²] up to √10, which all t share once they are full. `hypot` squares
        // without overflow.
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

    /// Of weights > 0 with a finite sum.
    fn proportional(weights: impl Iterator<Item = (Timestep, f64)>) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<_> = weights
            .map(|(t, weight)| {
                sum += weight;
                (t, sum)
            })
            .collect();
        // Dividing the sums, not the weights, puts t/T of the uniform on its place.
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

    /// 1/(T·p_t), the weight on L_t with which the mean over draws of t estimates the
    /// mean over all t without bias; 1 where p is uniform.
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn weight(&self, t: Timestep) -> f64 {
        (self.cumulative.len() as f64 * self.probability(t)).recip()
    }

    /// The first t with p_1 + … + p_t > `u`: for u uniform in [0, 1), a draw of t.
    ///
    /// Where p is uniform it is 1 + ⌊T·u⌋, which for all u but multiples of 1/T
    /// is ⌈T·u⌉. A `u` below 0 counts as 0, and from 1 on it gives T.
    pub fn quantile(&self, u: f64) -> Timestep {
        let index = self.cumulative.partition_point(|&(_, share)| share <= u);
        self.cumulative[index.min(self.cumulative.len() - 1)].0
    }
}

/// (u + i)/n for i < n: each is uniform in [0, 1) if `u` is, and together they leave no
/// gap (Kingma et al. 2021, app. I.1).
///
/// Their [`quantile`](TimestepDistribution::quantile)s are the stratified times of a
/// batch of n, t_i = ⌈T·(u + i)/n⌉ where p is uniform, whose mean loss varies less than
/// that of n independent draws.
pub fn stratified(u: f64, n: u32) -> impl ExactSizeIterator<Item = f64> {
    (0..n).map(move |i| (u + f64::from(i)) / f64::from(n))
}
