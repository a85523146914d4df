//! Which levels a training step visits, and what its rows' losses then count.

use std::ops::Range;

use ddpm_process::NoiseStream;
use ddpm_schedule::{
    LossHistory, LossHistoryError, NoiseLevel, NoiseSchedule, Process, Timestep, stratified,
};

use crate::plan::Draws;

/// How the levels of a batch are drawn; a part of a run's state.
#[derive(Clone, Debug)]
pub struct Times {
    stream: NoiseStream,
    draws: Draws,
    process: Process,
    history: Option<LossHistory>,
}

/// The level of each row, and the weight that makes up for how it was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The level.
    pub levels: Vec<NoiseLevel>,
    /// The timestep of each level; empty of a process that has none.
    pub t: Vec<Timestep>,
    /// 1/(T·p_t) of timesteps that are drawn by their losses, otherwise 1.
    pub weight: Vec<f64>,
}

impl Drawn {
    /// Those of some rows of the batch.
    #[must_use]
    pub fn of(&self, rows: Range<usize>) -> Self {
        let t = if self.t.is_empty() {
            Vec::new()
        } else {
            self.t[rows.clone()].to_vec()
        };
        Self {
            levels: self.levels[rows.clone()].to_vec(),
            t,
            weight: self.weight[rows].to_vec(),
        }
    }
}

impl Times {
    /// As a plan says, before the first step.
    pub fn new(draws: Draws, process: &Process, seed: u64) -> Self {
        let schedule = process.schedule().filter(|_| draws.by_loss);
        Self {
            stream: NoiseStream::new(seed, "t"),
            draws,
            history: schedule.map(LossHistory::new),
            process: process.clone(),
        }
    }

    /// The losses of t = 1, 2, …, T that are remembered; none where they do not matter.
    pub fn losses(&self) -> impl Iterator<Item = &[f64]> {
        let both = self.history.iter().zip(self.process.schedule());
        both.flat_map(|(history, schedule)| schedule.iter().map(|t| history.losses(t)))
    }

    /// Goes on from a checkpoint's losses.
    ///
    /// # Errors
    ///
    /// If they are not those of the schedule.
    pub fn restore(&mut self, losses: Vec<Vec<f64>>) -> Result<(), LossHistoryError> {
        if let (Some(history), Some(schedule)) = (&mut self.history, self.process.schedule()) {
            *history = LossHistory::from_losses(schedule, losses)?;
        }
        Ok(())
    }

    /// The levels of a whole batch, by its rows' positions in the run.
    pub fn draw(&self, samples: &[u64]) -> Drawn {
        let uniform = |&k: &u64| self.stream.row(k, 0).uniform();
        let shares: Vec<f64> = match samples {
            [first, ..] if self.draws.stratified => {
                let rows = u32::try_from(samples.len()).unwrap_or(u32::MAX);
                stratified(uniform(first), rows).collect()
            }
            _ => samples.iter().map(uniform).collect(),
        };
        match (&self.history, self.process.schedule()) {
            (Some(history), Some(schedule)) => {
                let distribution = history.distribution();
                let t: Vec<_> = shares.iter().map(|&u| distribution.quantile(u)).collect();
                Drawn {
                    levels: t.iter().map(|&t| schedule.level(t)).collect(),
                    weight: t.iter().map(|&t| distribution.weight(t)).collect(),
                    t,
                }
            }
            (_, schedule) => {
                let distribution = &self.draws.levels;
                let levels: Vec<_> = shares.iter().map(|&u| distribution.quantile(u)).collect();
                let at = |schedule: &NoiseSchedule| {
                    levels
                        .iter()
                        .map(|&level| schedule.nearest(level))
                        .collect()
                };
                Drawn {
                    t: schedule.map_or_else(Vec::new, at),
                    weight: vec![1.0; levels.len()],
                    levels,
                }
            }
        }
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
