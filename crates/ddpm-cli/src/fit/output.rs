//! What a run shows and keeps while it trains: progress, record, pictures, checkpoints.

use std::path::PathBuf;

use anyhow::Result;
use ddpm_data::classes;
use ddpm_model::Network;
use ddpm_train::checkpoint::Pruner;
use ddpm_train::metrics::{self, Metrics};

use super::record::{Record, plot_loss};
use super::run::Run;
use super::saver::{Saver, Troubles};
use crate::interrupt::Stop;
use crate::progress::Progress;
use crate::terminal::say;

/// A run's output; of several ranks, the first has it.
pub(super) struct Output {
    out: PathBuf,
    record: Record,
    troubles: Troubles,
    saver: Saver,
}

impl Output {
    /// Says what is about to happen, and opens the record for the steps to come.
    pub(super) fn open<const D: usize, M: Network<D>>(run: &Run<D, M>) -> Result<Self> {
        let (config, data) = (&run.plan.config, run.trainer.data());
        Progress::begin(
            &config.name,
            data.len(),
            data.shape(),
            run.trainer.network().num_params(),
            run.ranks.size(),
            &run.out,
        );
        if data.classes().is_some() {
            let counts = data.class_counts();
            say(classes::describe(data.class_names(), &counts));
        }
        data.notes().iter().for_each(say);
        let (record, bad) = Record::open(&run.out, run.trainer.step())?;
        if bad > 0 {
            let path = run.out.join(metrics::NAME);
            say(format_args!(
                "{}: lines that are no step's, left out: {bad}",
                path.display()
            ));
        }
        let mut troubles = Troubles::new(Progress::new(run.trainer.step(), config.steps));
        // A process that died once its last checkpoint was written has not removed older ones.
        let pruner = Pruner::new(&run.out, run.plan.keep);
        troubles.note("checkpoint", pruner.prune(run.trainer.step()));
        Ok(Self {
            out: run.out.clone(),
            record,
            troubles,
            saver: Saver::new(&run.out, pruner, run.saved),
        })
    }

    /// Takes notice of a step, and draws and saves where it is time to.
    pub(super) fn step<const D: usize, M: Network<D>>(
        &mut self,
        run: &Run<D, M>,
        mut line: Metrics,
        stop: &Stop,
    ) {
        let config = &run.plan.config;
        line.checkpoint = self.saver.poll(&mut self.troubles);
        let pushed = self.record.push(&line);
        self.troubles.note("metrics.jsonl", pushed);
        self.troubles.progress.step(&line);
        if run.is_pictured() {
            self.picture(run, stop);
            self.flush();
            self.troubles.note("loss.svg", plot_loss(&self.out));
        }
        let every = config.checkpoint.every;
        if every > 0
            && (run.trainer.step() == config.steps || run.trainer.step().is_multiple_of(every))
        {
            self.save(run);
        }
    }

    /// Makes the picture of the step that the run is at.
    pub(super) fn picture<const D: usize, M: Network<D>>(&mut self, run: &Run<D, M>, stop: &Stop) {
        self.troubles.note("picture", run.picture(stop));
    }

    /// Saves the run where it is, and says where the results are, unless the run was stopped early.
    pub(super) fn finish<const D: usize, M: Network<D>>(
        mut self,
        run: &Run<D, M>,
        stopped: bool,
    ) -> Result<()> {
        if self.saver.last != Some(run.trainer.step()) {
            self.save(run);
        }
        self.flush();
        self.saver.finish(&mut self.troubles);
        self.troubles.note("loss.svg", plot_loss(&self.out));
        let progress = self.troubles.settle(run.trainer.step(), &self.out)?;
        if !stopped {
            progress.finish(&self.out);
        }
        Ok(())
    }

    fn save<const D: usize, M: Network<D>>(&mut self, run: &Run<D, M>) {
        self.flush();
        (self.saver).save(run.trainer.step(), || run.copy(), &mut self.troubles);
    }

    fn flush(&mut self) {
        let flushed = self.record.flush();
        self.troubles.note("metrics.jsonl", flushed);
    }
}
