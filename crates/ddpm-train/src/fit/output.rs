//! What a run shows and keeps while it trains: progress, record, pictures, checkpoints.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use burn::module::Module;

use super::record::{Record, plot_loss};
use super::saver::{Saver, Troubles};
use super::{Metrics, Run};
use crate::checkpoint::Pruner;
use crate::data::classes;
use crate::interrupt::Stop;
use crate::metrics;
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
        let (record, bad) = Record::open(&run.out, run.step)?;
        if bad > 0 {
            let path = run.out.join(metrics::NAME);
            say(format_args!(
                "{}: lines that are no step's, left out: {bad}",
                path.display()
            ));
        }
        let mut troubles = Troubles::new(Progress::new(run.step, config.steps));
        // A process that died once its last checkpoint was written has not removed older ones.
        let pruner = Pruner::new(&run.out, run.plan.keep);
        troubles.note("checkpoint", pruner.prune(run.step));
        Ok(Self {
            out: run.out.clone(),
            record,
            troubles,
            saver: Saver::new(&run.out, pruner, run.saved),
            before: Instant::now(),
        })
    }

    /// Takes notice of a step, and draws and saves where it is time to.
    pub(super) fn step<const D: usize, M>(&mut self, run: &Run<M>, mut line: Metrics, stop: &Stop)
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
        if run.is_pictured() {
            self.picture::<D, M>(run, stop);
            self.flush();
            self.troubles.note("loss.svg", plot_loss(&self.out));
        }
        let every = config.checkpoint.every;
        if every > 0 && (run.step == config.steps || run.step.is_multiple_of(every)) {
            self.save(run);
        }
    }

    /// Makes the picture of the step that the run is at.
    pub(super) fn picture<const D: usize, M>(&mut self, run: &Run<M>, stop: &Stop)
    where
        M: Network<D>,
    {
        self.troubles.note("picture", run.picture::<D>(stop));
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
