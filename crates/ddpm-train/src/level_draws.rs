//! Which levels a training step visits, and what its rows' losses then count.

use std::ops::Range;

use ddpm_process::NoiseStream;
use ddpm_schedule::{
    LevelDistribution, LossHistory, LossHistoryError, NoiseLevel, NoiseSchedule, Process, Timestep,
    stratified,
};

/// How the levels of a batch are to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelSampling {
    /// Their distribution, where it is not that of the losses.
    pub distribution: LevelDistribution,
    /// Whether they are spread evenly over a batch.
    pub stratified: bool,
    /// Whether timesteps are drawn by the size of their last losses.
    pub by_loss: bool,
}

/// Draws the levels of each batch, and remembers losses where they decide; a part of a run's state.
#[derive(Clone, Debug)]
pub struct LevelDraws {
    stream: NoiseStream,
    sampling: LevelSampling,
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

impl LevelDraws {
    /// Before the first step.
    pub fn new(sampling: LevelSampling, process: &Process, seed: u64) -> Self {
        let schedule = process.schedule().filter(|_| sampling.by_loss);
        Self {
            stream: NoiseStream::new(seed, "t"),
            sampling,
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
            [first, ..] if self.sampling.stratified => {
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
                let distribution = &self.sampling.distribution;
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

#[cfg(test)]
mod tests {
    use ddpm_schedule::TrainingLevels;

    use super::*;

    fn draws(timesteps: u32, stratified: bool, by_loss: bool) -> (LevelDraws, Process) {
        let process = Process::from(NoiseSchedule::cosine(timesteps, 0.008).unwrap());
        let sampling = LevelSampling {
            distribution: TrainingLevels::Uniform.on(&process).unwrap(),
            stratified,
            by_loss,
        };
        (LevelDraws::new(sampling, &process, 0), process)
    }

    /// A thousand rows spread evenly visit each of a thousand times once; drawn one by one they miss
    /// a share of (1 − 1/1000)¹⁰⁰⁰, more than a third.
    #[test]
    fn stratified_times_leave_none_out() {
        let samples: Vec<u64> = (3000..4000).collect();
        let visited = |stratified| {
            let drawn = draws(1000, stratified, false).0.draw(&samples);
            let mut t: Vec<_> = drawn.t.iter().map(|t| t.get()).collect();
            t.sort_unstable();
            t.dedup();
            t.len()
        };
        assert_eq!(visited(true), 1000);
        // 632 with a standard error of 10.
        assert!((582..=682).contains(&visited(false)));
    }

    /// Once every t has its losses, the one with large ones is drawn more and weighs less; the
    /// weights keep the mean: Σ p_t·1/(T·p_t) = 1.
    #[test]
    fn large_losses_are_visited_more() {
        let (mut draws, process) = draws(2, false, true);
        let schedule = process.schedule().unwrap();
        let samples: Vec<u64> = (0..10_000).collect();
        let mut weights = draws.draw(&samples).weight.into_iter();
        assert!(weights.all(|w| (w - 1.0).abs() < 1e-12));
        for _ in 0..10 {
            let t: Vec<_> = schedule.iter().collect();
            draws.record(&t, &[3.0, 1.0]).unwrap();
        }
        let drawn = draws.draw(&samples);
        let first = drawn.t.iter().filter(|t| t.get() == 1).count();
        // p₁ = 0.999·3/4 + 0.001/2 = 0.7498, the standard error 43 of 10,000.
        assert!((7280..=7720).contains(&first), "{first}");
        let mean = drawn.weight.iter().sum::<f64>() / 10_000.0;
        // Weights 0.667 and 1.998: a standard deviation of 0.577, 0.0058 of the mean.
        assert!((mean - 1.0).abs() < 0.029, "{mean}");
    }
}
