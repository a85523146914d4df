//! Which t a training step visits, and what its rows' losses then count.

use std::ops::Range;

use ddpm_process::NoiseStream;
use ddpm_schedule::{
    LossHistory, LossHistoryError, NoiseSchedule, Timestep, TimestepDistribution, stratified,
};

use crate::config::Objective;

/// How the times of a batch are drawn; a part of a run's state.
#[derive(Clone, Debug)]
pub struct Times {
    stream: NoiseStream,
    stratified: bool,
    uniform: TimestepDistribution,
    history: Option<LossHistory>,
}

/// The time of each row, and the weight 1/(T·p_t) that makes up for how it was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// t.
    pub t: Vec<Timestep>,
    /// 1/(T·p_t), 1 where t is uniform.
    pub weight: Vec<f64>,
}

impl Drawn {
    /// Those of some rows of the batch.
    #[must_use]
    pub fn of(&self, rows: Range<usize>) -> Self {
        Self {
            t: self.t[rows.clone()].to_vec(),
            weight: self.weight[rows].to_vec(),
        }
    }
}

impl Times {
    /// As the configuration says, before the first step.
    pub fn new(config: &Objective, schedule: &NoiseSchedule, seed: u64) -> Self {
        Self {
            stream: NoiseStream::new(seed, "t"),
            stratified: config.stratified,
            uniform: TimestepDistribution::uniform(schedule),
            history: (config.importance_sampling).then(|| LossHistory::new(schedule)),
        }
    }

    /// The losses of t = 1, 2, …, T that are remembered; none where they do not matter.
    pub fn losses<'a>(&'a self, schedule: &'a NoiseSchedule) -> impl Iterator<Item = &'a [f64]> {
        let history = self.history.iter();
        history.flat_map(|history| schedule.iter().map(|t| history.losses(t)))
    }

    /// Goes on from a checkpoint's losses.
    ///
    /// # Errors
    ///
    /// If they are not those of the schedule.
    pub fn restore(
        &mut self,
        schedule: &NoiseSchedule,
        losses: Vec<Vec<f64>>,
    ) -> Result<(), LossHistoryError> {
        if let Some(history) = &mut self.history {
            *history = LossHistory::from_losses(schedule, losses)?;
        }
        Ok(())
    }

    /// The times of a whole batch, by its rows' positions in the run.
    pub fn draw(&self, samples: &[u64]) -> Drawn {
        let uniform = |&k: &u64| self.stream.row(k, 0).uniform();
        let shares: Vec<f64> = match samples {
            [first, ..] if self.stratified => {
                let rows = u32::try_from(samples.len()).unwrap_or(u32::MAX);
                stratified(uniform(first), rows).collect()
            }
            _ => samples.iter().map(uniform).collect(),
        };
        let from_history = self.history.as_ref().map(LossHistory::distribution);
        let distribution = from_history.as_ref().unwrap_or(&self.uniform);
        let t: Vec<_> = shares.iter().map(|&u| distribution.quantile(u)).collect();
        let weight = match from_history {
            Some(_) => t.iter().map(|&t| distribution.weight(t)).collect(),
            None => vec![1.0; t.len()],
        };
        Drawn { t, weight }
    }

    /// Whether losses are remembered.
    pub fn remembers(&self) -> bool {
        self.history.is_some()
    }

    /// Remembers the rows' losses, before their weights.
    ///
    /// # Errors
    ///
    /// If one is not finite.
    pub fn record(&mut self, t: &[Timestep], losses: &[f64]) -> Result<(), LossHistoryError> {
        let Some(history) = &mut self.history else {
            return Ok(());
        };
        let mut rows = t.iter().zip(losses);
        rows.try_for_each(|(&t, &loss)| history.record(t, loss))
    }
}
