//! The weights of a run, to begin another run with.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use burn::tensor::Device;

use super::identity::{Difference, differences, is_in};
use crate::checkpoint;
use crate::config::Config;
use crate::data::{Dataset, classes};
use crate::network::{AnyNetwork, build};
use crate::plan::Plan;

/// The keys that say what the network is. Its dropout has no weights, and is the new run's.
const NETWORK: [&str; 2] = ["model", "objective.learned_variance"];

/// The averaged weights of a run's checkpoint: those that one samples from.
pub struct Weights {
    checkpoint: PathBuf,
    config: Config,
    shape: Vec<usize>,
}

impl Weights {
    /// The weights of the newest whole checkpoint in the folder of a run, or of a checkpoint.
    ///
    /// # Errors
    ///
    /// If there is none, or its configuration or state cannot be read.
    pub fn of(run: &Path) -> Result<Self> {
        let checkpoint = checkpoint::newest(run)?;
        Ok(Self {
            config: Config::read(&checkpoint.join("config.toml"))?,
            shape: checkpoint::row_shape(&checkpoint)?,
            checkpoint,
        })
    }

    /// The configuration that they were trained with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The network of a plan for rows of `shape`, with these weights.
    ///
    /// # Errors
    ///
    /// If the plan's network is another one, or rows are of another kind.
    pub(super) fn build(
        &self,
        plan: &Plan,
        shape: &[usize],
        device: &Device,
    ) -> Result<AnyNetwork> {
        let others = differences(&self.config, &plan.config, &["model.dropout"])?;
        let others: Vec<_> = others
            .iter()
            .filter(|difference| is_in(&difference.key, &NETWORK))
            .map(ToString::to_string)
            .collect();
        let checkpoint = self.checkpoint.display();
        ensure!(
            others.is_empty(),
            "{checkpoint} holds the weights of another network: {}",
            others.join("; ")
        );
        // A U-Net is one for images of any size; the channels must be the same.
        ensure!(
            self.shape.len() == shape.len() && self.shape.first() == shape.first(),
            "{checkpoint} was trained on rows of shape {:?}, the data has {shape:?}",
            self.shape
        );
        let learned = plan.config.objective.learned_variance;
        let weights = self.checkpoint.join("ema.safetensors");
        let seed = plan.config.seed;
        Ok(match build(&plan.network, learned, shape, seed, device)? {
            AnyNetwork::UNet(network) => {
                AnyNetwork::UNet(Box::new(checkpoint::load_module(&weights, *network)?))
            }
            AnyNetwork::Mlp(network) => {
                AnyNetwork::Mlp(Box::new(checkpoint::load_module(&weights, *network)?))
            }
        })
    }

    /// Where they are from, and what the plan has otherwise than the run they are from.
    pub(super) fn story(&self, plan: &Plan, dataset: &Dataset) -> Result<String> {
        let differences = differences(&self.config, &plan.config, &super::identity::FREE)?;
        let mut differences: Vec<_> = differences.iter().map(Difference::to_string).collect();
        let names = checkpoint::class_names(&self.checkpoint)?;
        differences.extend(classes::renamed(&names, dataset.class_names()));
        let but = match differences.as_slice() {
            [] => String::new(),
            differences => format!("; {}", differences.join("; ")),
        };
        Ok(format!("begins with the averaged weights of {self}{but}"))
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checkpoint.display().fmt(f)
    }
}
