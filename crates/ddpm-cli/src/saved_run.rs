//! A run on disk, opened at its newest whole checkpoint.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use ddpm_model::weights::load_module;
use ddpm_train::checkpoint;

use crate::config::Config;
use crate::network::{AnyNetwork, build};
use crate::place;
use crate::plan::Plan;
use crate::terminal::say;

/// A run's newest whole checkpoint.
pub(crate) struct SavedRun {
    /// The checkpoint's folder.
    pub(crate) checkpoint: PathBuf,
    /// Its configuration.
    pub(crate) config: Config,
    /// What errors call the configuration: its file.
    pub(crate) file: String,
    /// Shape of a row of the data.
    pub(crate) shape: Vec<usize>,
    /// Names of the classes of the data; empty if they are not known.
    pub(crate) class_names: Vec<String>,
}

/// Which of a checkpoint's weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WeightsOf {
    /// Those being trained.
    Training,
    /// Their average, from which one samples; of several, the first.
    Average,
    /// The average of this decay, which is not the first.
    AverageOf(f64),
}

impl SavedRun {
    /// Opens the run in the folder `run`, or the checkpoint that `run` is. Newer checkpoints that are
    /// not whole are named on standard error.
    ///
    /// # Errors
    ///
    /// If it is a folder of diffusers, there is no whole checkpoint, or a file of it cannot be read.
    pub(crate) fn open(run: &Path) -> Result<Self> {
        place::refuse_diffusers(run)?;
        let (checkpoint, skipped) = checkpoint::newest(run)?;
        for error in &skipped {
            say(format_args!("skipped: {error}"));
        }
        let file = checkpoint.join("config.toml");
        Ok(Self {
            config: Config::read(&file)?,
            file: file.display().to_string(),
            shape: checkpoint::row_shape(&checkpoint)?,
            class_names: checkpoint::class_names(&checkpoint)?,
            checkpoint,
        })
    }

    /// The checked configuration.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`].
    pub(crate) fn plan(&self) -> Result<Plan> {
        Ok(Plan::new(self.config.clone(), &self.file)?)
    }

    /// The network of a plan with weights of the checkpoint.
    ///
    /// # Errors
    ///
    /// If the weights are not those of the plan's network, or damaged.
    pub(crate) fn network(
        &self,
        plan: &Plan,
        shape: &[usize],
        weights: WeightsOf,
        device: &Device,
    ) -> Result<AnyNetwork> {
        let name = match weights {
            WeightsOf::Training => "model.safetensors".to_owned(),
            WeightsOf::Average => "ema.safetensors".to_owned(),
            WeightsOf::AverageOf(decay) => checkpoint::average_file(decay),
        };
        let file = self.checkpoint.join(name);
        let learned = plan.config.objective.learned_variance;
        let network = build(&plan.config.model, learned, shape, plan.config.seed, device)?;
        Ok(match network {
            AnyNetwork::UNet(unet) => AnyNetwork::UNet(Box::new(load_module(&file, *unet)?)),
            AnyNetwork::Mlp(mlp) => AnyNetwork::Mlp(Box::new(load_module(&file, *mlp)?)),
        })
    }
}
