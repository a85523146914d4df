//! What a run shows and keeps while it trains: progress, record, pictures, checkpoints.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use burn::module::Module;

use super::record::{Record, plot_loss};
use super::saver::{Saver, Troubles};
use super::{Metrics, Run};
use crate::checkpoint::prune;
use crate::data::classes;
use crate::network::Network;
use crate::progress::Progress;
use crate::terminal::say;

/// A run's output; of several ranks, the first has it.
pub(super) struct Output {
    out: PathBuf,
    record: Record,
    troubles: Troubles,
    saver: Saver,
    before: Instant,
}

impl Output {
    /// Says what is about to happen, and opens the record for the steps to come.
    pub(super) fn open<M: Module>(run: &Run<M>) -> Result<Self> {
        let config = &run.plan.config;
        Progress::begin(
            &config.name,
            run.dataset.len(),
            run.dataset.shape(),
            run.model.num_params(),
            run.ranks.size(),
            &run.out,
        );
        if run.dataset.classes().is_some() {
            let counts = run.dataset.class_counts();
            say(classes::describe(run.dataset.class_names(), &counts));
        }
        run.dataset.notes().iter().for_each(say);
        let record = Record::open(&run.out.join("metrics.jsonl"), run.step)?;
        let mut troubles = Troubles::new(Progress::new(run.step, config.steps));
        // A process that died once its last checkpoint was written has not removed older ones.
        let pruned = prune(&run.out, run.step, run.plan.keep);
        troubles.note("checkpoint", pruned);
        Ok(Self {
            out: run.out.clone(),
            record,
            troubles,
            saver: Saver::new(&run.out, run.plan.keep, run.saved),
            before: Instant::now(),
        })
    }

    /// Takes notice of a step, and draws and saves where it is time to.
    pub(super) fn step<const D: usize, M>(&mut self, run: &Run<M>, mut line: Metrics)
    where
        M: Network<D>,
    {
        let config = &run.plan.config;
        line.images_per_second = config.batch_size as f64 / self.before.elapsed().as_secs_f64();
        self.before = Instant::now();
        line.checkpoint = self.saver.poll(&mut self.troubles);
        let pushed = self.record.push(&line);
        self.troubles.note("metrics.jsonl", pushed);
        self.troubles.progress.step(&line);
        let last = run.step == config.steps;
        let due = |every: u64| every > 0 && (last || run.step.is_multiple_of(every));
        if due(config.sampling.every) {
            self.troubles.note("picture", run.picture::<D>());
            self.flush();
            self.troubles.note("loss.svg", plot_loss(&self.out));
        }
        if due(config.checkpoint.every) {
            self.save(run);
        }
    }

    /// Saves the run where it is, and says where its results are; `stopped` before its end, they
    /// are not.
    pub(super) fn finish<M: Module>(mut self, run: &Run<M>, stopped: bool) -> Result<()> {
        if self.saver.last != Some(run.step) {
            self.save(run);
        }
        self.flush();
        self.saver.finish(&mut self.troubles);
        self.troubles.note("loss.svg", plot_loss(&self.out));
        let progress = self.troubles.settle(run.step, &self.out)?;
        if !stopped {
            progress.finish(&self.out);
        }
        Ok(())
    }

    fn save<M: Module>(&mut self, run: &Run<M>) {
        self.flush();
        (self.saver).save(run.step, || run.copy(), &mut self.troubles);
    }

    fn flush(&mut self) {
        let flushed = self.record.flush();
        self.troubles.note("metrics.jsonl", flushed);
    }
}
