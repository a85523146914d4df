//! The weights of a run, to begin another run with.

use std::fmt;
use std::path::Path;

use anyhow::{Result, ensure};
use burn::tensor::Device;
use ddpm_data::{Dataset, classes};

use super::identity::{Difference, differences, is_in};
use crate::config::Config;
use crate::network::AnyNetwork;
use crate::plan::Plan;
use crate::saved_run::{SavedRun, WeightsOf};

/// The keys that say what the network is. Its dropout has no weights, and is the new run's.
const NETWORK: [&str; 2] = ["model", "objective.learned_variance"];

/// The averaged weights of a run's checkpoint: those that one samples from.
pub struct Weights {
    run: SavedRun,
}

impl Weights {
    /// The weights of the newest whole checkpoint in the folder of a run, or of a checkpoint.
    ///
    /// # Errors
    ///
    /// If there is none, or its configuration or state cannot be read.
    pub fn of(run: &Path) -> Result<Self> {
        let run = SavedRun::open(run)?;
        Ok(Self { run })
    }

    /// The configuration that they were trained with.
    pub fn config(&self) -> &Config {
        &self.run.config
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
        let others = differences(&self.run.config, &plan.config, &["model.dropout"])?;
        let others: Vec<_> = others
            .iter()
            .filter(|difference| is_in(&difference.key, &NETWORK))
            .map(ToString::to_string)
            .collect();
        let checkpoint = self.run.checkpoint.display();
        ensure!(
            others.is_empty(),
            "{checkpoint} holds the weights of another network: {}",
            others.join("; ")
        );
        // A U-Net is one for images of any size; the channels must be the same.
        ensure!(
            self.run.shape.len() == shape.len() && self.run.shape.first() == shape.first(),
            "{checkpoint} was trained on rows of shape {:?}, the data has {shape:?}",
            self.run.shape
        );
        self.run.network(plan, shape, WeightsOf::Average, device)
    }

    /// Where they are from, and what the plan has otherwise than the run they are from.
    pub(super) fn story(&self, plan: &Plan, dataset: &dyn Dataset) -> Result<String> {
        let differences = differences(&self.run.config, &plan.config, &super::identity::FREE)?;
        let mut differences: Vec<_> = differences.iter().map(Difference::to_string).collect();
        let names = &self.run.class_names;
        differences.extend(classes::renamed(names, dataset.class_names()));
        let but = match differences.as_slice() {
            [] => String::new(),
            differences => format!("; {}", differences.join("; ")),
        };
        Ok(format!("begins with the averaged weights of {self}{but}"))
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.run.checkpoint.display().fmt(f)
    }
}
