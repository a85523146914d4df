//! What a run is told, as TOML: raw, and exactly as complete as the file.
//!
//! Unknown keys are refused. The structs here hold whatever a file can say; [`crate::plan`] turns
//! them into types that cannot be invalid, naming file, key and reason where that fails.

mod data;
mod error;
mod model;
mod optimizer;
mod process;
mod recipes;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;

use burn::tensor::Device;
use ddpm_kernels::{Autocast, Precision, autocast, is_fast};
use ddpm_process::AfterClip;
use ddpm_schedule::solver::Parameters;
use serde::{Deserialize, Serialize};

use ddpm_train::device::DeviceError;

pub use data::{Data, DataKind, ImageSize};
pub use error::ConfigError;
pub use model::Model;
pub use optimizer::{DecayKind, Decays, Ema, Optimizer, OptimizerKind};
pub use process::{Process, ProcessKind};
pub use recipes::{RECIPES, recipe};

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names the run's default folder.
    pub name: String,
    /// Everything random in the run follows from it.
    #[serde(default)]
    pub seed: u64,
    /// Optimizer steps of the whole run.
    pub steps: u64,
    /// Rows of data a step.
    pub batch_size: usize,
    /// Parts a step's batch is computed in, one after the other, to save memory.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// What the factors of convolutions are rounded to.
    #[serde(default)]
    pub precision: PrecisionKind,
    /// Where the rows come from.
    pub data: Data,
    /// The noise levels.
    pub process: Process,
    /// What is regressed.
    pub objective: Objective,
    /// The network.
    pub model: Model,
    /// Gradient descent.
    pub optimizer: Optimizer,
    /// The averaged weights.
    pub ema: Ema,
    /// The pictures made on the way, and the sampler `ddpm sample` takes by default.
    pub sampling: Sampling,
    /// When to save.
    pub checkpoint: Checkpoint,
}

/// `precision`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PrecisionKind {
    /// All of training and sampling in f32.
    #[default]
    F32,
    /// Convolutions multiply bf16 and add in f32. Weights, gradients, averages and all else stay f32.
    Bf16,
}

impl PrecisionKind {
    /// The kernels' guard for this precision.
    ///
    /// # Errors
    ///
    /// If the device gains nothing from it.
    pub(crate) fn guard(self, device: &Device) -> Result<Autocast, DeviceError> {
        let precision = match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
        };
        if !is_fast(precision, device) {
            return Err(DeviceError::NoBf16);
        }
        Ok(autocast(precision))
    }
}

/// `[objective]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// What the network predicts.
    pub parametrization: ParametrizationKind,
    /// How times are weighted.
    pub weighting: WeightingKind,
    /// The standard deviation of the data, of parametrization and weighting `edm`; 0.5 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma_data: Option<f64>,
    /// γ of `min-snr`, `soft-min-snr` and `p2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// k of `p2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<f64>,
    /// The bias of `sigmoid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<f64>,
    /// How levels are drawn.
    #[serde(default)]
    pub levels: LevelsKind,
    /// The mean of `log-normal` and `logit-normal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// The standard deviation of `log-normal` and `logit-normal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<f64>,
    /// Probability of training a row without its class, for classifier-free guidance.
    #[serde(default)]
    pub class_dropout: f64,
    /// Whether the network chooses the variance of the reverse step, trained by `L_hybrid`.
    #[serde(default)]
    pub learned_variance: bool,
    /// Whether times are drawn by the size of their last losses.
    #[serde(default)]
    pub importance_sampling: bool,
    /// Whether the times of a batch are spread evenly.
    #[serde(default)]
    pub stratified: bool,
}

/// `objective.parametrization`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum ParametrizationKind {
    Epsilon,
    X0,
    V,
    Flow,
    Edm,
}

/// `objective.levels`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LevelsKind {
    /// Every time alike.
    #[default]
    Uniform,
    /// ln σ is normal (Karras et al. 2022).
    LogNormal,
    /// The logit of the time is normal (Esser et al. 2024).
    LogitNormal,
    /// Every σ^(1/ρ) alike.
    UniformSigma,
}

/// `objective.weighting`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum WeightingKind {
    Simple,
    Vlb,
    MinSnr,
    SoftMinSnr,
    P2,
    Edm,
    Debiased,
    Sigmoid,
}

/// `[sampling]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// The sampler, as `ddpm samplers` names it.
    pub sampler: String,
    /// How the steps are laid out.
    #[serde(default = "trailing")]
    pub grid: String,
    /// Steps of the reverse process.
    pub steps: u32,
    /// η of samplers that add noise: how much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// How much noise `heun` adds and takes away again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<f64>,
    /// The order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<u32>,
    /// ρ of the grid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rho: Option<f64>,
    /// The largest error of a step, of samplers that choose their steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// The ε̂ that goes on once x̂₀ is clipped.
    #[serde(default)]
    pub clipped_epsilon: ClippedEpsilon,
    /// Images in a picture.
    pub count: usize,
    /// Training steps between pictures; 0 makes none.
    pub every: u64,
}

/// `sampling.clipped_epsilon`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClippedEpsilon {
    /// What the clipped x̂₀ leaves of x_t (guided-diffusion).
    #[default]
    Derived,
    /// The network's own (DDIM in diffusers).
    Kept,
}

impl From<ClippedEpsilon> for AfterClip {
    fn from(kind: ClippedEpsilon) -> Self {
        match kind {
            ClippedEpsilon::Derived => Self::Derived,
            ClippedEpsilon::Kept => Self::Kept,
        }
    }
}

impl Sampling {
    /// The numbers that are the sampler's own.
    pub fn numbers(&self) -> Parameters {
        Parameters {
            eta: self.eta,
            churn: self.churn,
            order: self.order,
            tolerance: self.tolerance,
        }
    }
}

/// `[checkpoint]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Training steps between checkpoints.
    pub every: u64,
    /// How many of the last are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<NonZeroUsize>,
    /// Of which steps' multiples they are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every: Option<NonZeroU64>,
    /// How many of the lowest loss are kept: its mean over the `every` steps up to a checkpoint.
    /// Without any `keep_`, all are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_best: Option<NonZeroUsize>,
}

impl Config {
    /// Reads a configuration's text; `file` is what errors call it.
    ///
    /// # Errors
    ///
    /// If it is not TOML, or a key is unknown, missing or of the wrong type.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let table: toml::Table = toml::from_str(text).unwrap_or_default();
        let optimizer = table.get("optimizer").and_then(toml::Value::as_table);
        for (is_there, key, reason) in [
            (
                table.contains_key("schedule"),
                "[schedule]",
                "this table is called [process] now, with the same keys",
            ),
            (
                optimizer.is_some_and(|table| table.contains_key("cosine_decay")),
                "optimizer.cosine_decay",
                "this key is called `decay` now: write decay = \"cosine\" for true, and leave it out \
                 for false",
            ),
        ] {
            if is_there {
                return Err(ConfigError::Invalid {
                    file: file.to_owned(),
                    key,
                    reason: reason.to_owned(),
                });
            }
        }
        toml::from_str(text).map_err(|error| ConfigError::Parse {
            file: file.to_owned(),
            error: Box::new(error),
        })
    }

    /// Takes the data of the option `--data`; `file` is what errors call the configuration, and `way_out`
    /// what they advise.
    ///
    /// # Errors
    ///
    /// If the kind of data has no use for it.
    pub fn set_data(
        &mut self,
        path: &Path,
        file: &str,
        way_out: impl FnOnce() -> String,
    ) -> Result<(), ConfigError> {
        if !self.data.kind.has_path() {
            return Err(ConfigError::DataOption {
                path: path.to_owned(),
                file: file.to_owned(),
                kind: self.data.kind.name(),
                way_out: way_out(),
            });
        }
        self.data.path = Some(path.to_owned());
        Ok(())
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, and as [`parse`](Self::parse).
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(&text, &path.display().to_string())
    }
}

fn one() -> usize {
    1
}

fn trailing() -> String {
    "trailing".to_owned()
}
