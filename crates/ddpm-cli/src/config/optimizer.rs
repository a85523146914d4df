//! `[optimizer]` and `[ema]`.

use serde::{Deserialize, Serialize};

/// `[optimizer]`. The numbers of AdamW are PyTorch's unless the file says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// Which one.
    #[serde(default)]
    pub kind: OptimizerKind,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// β₁ of AdamW.
    #[serde(default = "beta_1")]
    pub beta_1: f64,
    /// β₂ of AdamW.
    #[serde(default = "beta_2")]
    pub beta_2: f64,
    /// ε of AdamW.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// The decoupled weight decay of all parameters.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// The momentum of `muon`; 0.95 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Steps of linear warmup.
    #[serde(default)]
    pub warmup: u64,
    /// How the rate falls after warmup.
    #[serde(default)]
    pub decay: DecayKind,
    /// Largest joint norm of the gradients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
}

/// `optimizer.kind`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// AdamW for all parameters.
    #[default]
    Adamw,
    /// Muon for the matrices and kernels within the network, AdamW for the others.
    Muon,
}

impl OptimizerKind {
    /// The name that a file has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adamw => "adamw",
            Self::Muon => "muon",
        }
    }
}

/// `optimizer.decay`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayKind {
    /// The rate does not fall.
    #[default]
    Constant,
    /// Along half a cosine, toward 0 at the step after the last.
    Cosine,
    /// As the inverse square root of the step.
    InverseSqrt,
    /// Along a line, toward 0 at the step after the last.
    Linear,
}

impl From<DecayKind> for ddpm_train::optim::Decay {
    fn from(kind: DecayKind) -> Self {
        match kind {
            DecayKind::Constant => Self::Constant,
            DecayKind::Cosine => Self::Cosine,
            DecayKind::InverseSqrt => Self::InverseSqrt,
            DecayKind::Linear => Self::Linear,
        }
    }
}

/// `[ema]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ema {
    /// Decays of the averaged weights. Of several, `ddpm sample` takes the first unless `--ema` names
    /// another.
    pub decay: Decays,
}

/// `ema.decay`: one number, or a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number or a list of numbers")]
pub enum Decays {
    /// `0.999`
    One(f64),
    /// `[0.999, 0.9999]`
    Several(Vec<f64>),
}

impl Decays {
    /// The decays.
    pub fn as_slice(&self) -> &[f64] {
        match self {
            Self::One(decay) => std::slice::from_ref(decay),
            Self::Several(decays) => decays,
        }
    }
}

fn beta_1() -> f64 {
    0.9
}

fn beta_2() -> f64 {
    0.999
}

fn epsilon() -> f64 {
    1e-8
}

fn weight_decay() -> f64 {
    0.01
}
