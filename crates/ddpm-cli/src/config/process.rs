//! `[process]`: the noise levels, and the time that the network is told at each.

use serde::{Deserialize, Serialize};

/// `[process]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The family.
    pub kind: ProcessKind,
    /// T of the kinds with timesteps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timesteps: Option<u32>,
    /// β₁ of `linear` and `scaled-linear`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_start: Option<f64>,
    /// `β_T` of `linear` and `scaled-linear`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_end: Option<f64>,
    /// σ of `random-walk`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// Whether the schedule is rescaled to end at zero SNR (Lin et al. 2023).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub zero_terminal_snr: bool,
    /// β(0) of `vp-linear`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_min: Option<f64>,
    /// β(1) of `vp-linear`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_max: Option<f64>,
    /// The least σ of `edm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma_min: Option<f64>,
    /// The largest σ of `edm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma_max: Option<f64>,
    /// The shift of `flow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<f64>,
}

/// `process.kind`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessKind {
    /// DDPM: β rises linearly.
    Linear,
    /// √β rises linearly.
    ScaledLinear,
    /// ᾱ falls along a squared cosine.
    Cosine,
    /// ᾱ falls along the logistic function.
    Sigmoid,
    /// `x_t` = x_{t−1} + σ·ε.
    RandomWalk,
    /// Variance preserving in continuous time, β(t) rising linearly.
    VpLinear,
    /// Variance preserving in continuous time, a falling along a cosine.
    VpCosine,
    /// Data plus noise of standard deviation σ, in continuous time.
    Edm,
    /// Rectified flow: the straight way from data to noise.
    Flow,
}

impl ProcessKind {
    /// Whether the kind has timesteps 1..=T.
    pub fn has_timesteps(self) -> bool {
        !matches!(
            self,
            Self::VpLinear | Self::VpCosine | Self::Edm | Self::Flow
        )
    }
}
