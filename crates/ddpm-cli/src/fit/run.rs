//! A run in progress: its trainer, and what is known of it beside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::tensor::Device;
use ddpm_data::Dataset;
use ddpm_files::{FileError, write_file};
use ddpm_model::Network;
use ddpm_train::Trainer;
use ddpm_train::checkpoint::Encoded;
use ddpm_train::ranks::{Ranks, RanksError};

use crate::drawing::{BATCH, Classes, Drawing, Request};
use crate::interrupt::{Signal, Stop};
use crate::picture::png;
use crate::plan::Plan;

/// A run in progress.
pub(super) struct Run<'a, const D: usize, M> {
    pub(super) plan: &'a Plan,
    pub(super) out: PathBuf,
    /// The configuration as text, which a checkpoint keeps.
    pub(super) config: String,
    pub(super) trainer: Trainer<D, M>,
    /// The step whose checkpoint the run is at.
    pub(super) saved: Option<u64>,
    pub(super) device: Device,
    pub(super) ranks: &'a Ranks,
    /// What asked one of the ranks to stop.
    pub(super) asked: Option<Signal>,
}

impl<'a, const D: usize, M: Network<D>> Run<'a, D, M> {
    pub(super) fn new(
        plan: &'a Plan,
        out: &Path,
        dataset: Arc<dyn Dataset>,
        network: M,
        device: &Device,
        ranks: &'a Ranks,
    ) -> Result<Self> {
        let settings = plan.settings.clone();
        Ok(Self {
            config: toml::to_string(&plan.config)?,
            trainer: Trainer::with_ranks(network, dataset, settings, device, ranks)?,
            plan,
            out: out.to_owned(),
            saved: None,
            device: device.clone(),
            ranks,
            asked: None,
        })
    }

    /// Tells the other ranks whether this one was asked to stop, so that all stop at the same step.
    pub(super) fn exchange(&mut self, stop: &Stop) -> Result<(), RanksError> {
        let asked = stop.asked().map_or(0, Signal::exit_code);
        let all = self.ranks.gather(&[asked.into()])?;
        self.asked = all.iter().find_map(|&code| signal(code));
        Ok(())
    }

    /// Whether a picture is made of the step that the run is at.
    pub(super) fn is_pictured(&self) -> bool {
        let config = &self.plan.config;
        let (step, every) = (self.trainer.step(), config.sampling.every);
        let due = step == config.steps || step.is_multiple_of(every);
        every > 0 && step > 0 && due
    }

    /// Where that picture is.
    fn picture_path(&self) -> PathBuf {
        let step = self.trainer.step();
        self.out.join(format!("samples/step-{step:08}.png"))
    }

    /// Whether it is still to be made.
    pub(super) fn lacks_picture(&self) -> bool {
        self.is_pictured() && !self.picture_path().exists()
    }

    /// A grid from the averaged weights, with the same noise every time. Asked to stop, it leaves the
    /// picture to the resumed run.
    pub(super) fn picture(&self, stop: &Stop) -> Result<()> {
        let drawing = Drawing {
            network: &self.trainer.average(),
            objective: &self.plan.settings.objective,
            plan: &self.plan.sampling,
            request: Request {
                seed: self.plan.config.seed,
                classes: self.plan.classes().map(Classes::InTurn),
                null_class: self.plan.null_class(),
                guidance: 1.0,
                shape: self.trainer.data().shape(),
                batch: BATCH,
            },
            device: &self.device,
        };
        let path = self.picture_path();
        let context = || path.display().to_string();
        let rows = 0..self.plan.config.sampling.count;
        if let Some(samples) = drawing.sample::<D>(rows, stop).with_context(context)? {
            let bytes = png(&samples.grid()).with_context(context)?;
            write_file(&path, &bytes)?;
        }
        Ok(())
    }

    /// An independent host copy of the run's state; training may change the originals.
    pub(super) fn copy(&self) -> Result<Encoded, FileError> {
        Encoded::new(&self.trainer.snapshot(), &self.config)
    }
}

/// The signal of an exit code that was sent as a number.
fn signal(code: f64) -> Option<Signal> {
    Signal::ALL
        .iter()
        .copied()
        .find(|signal| f64::from(signal.exit_code()) == code)
}
