//! `[objective]`, checked.

use ddpm_schedule::{Objective, Parametrization, Process, TrainingLevels, Weighting};
use ddpm_train::level_draws::LevelSampling;

use crate::config::{self, LevelsKind, ParametrizationKind, WeightingKind};

/// The standard deviation of the data where the configuration does not say (Karras et al. 2022).
const SIGMA_DATA: f64 = 0.5;

/// What is regressed.
///
/// # Errors
///
/// If a number is of another weighting, or the parts do not fit together.
pub(super) fn objective(config: &config::Objective, process: Process) -> Result<Objective, String> {
    use WeightingKind::{Debiased, Edm, MinSnr, P2, Sigmoid, Simple, SoftMinSnr, Vlb};
    let kind = config.weighting;
    let edm = config.parametrization == ParametrizationKind::Edm;
    for (key, given, used, of) in [
        (
            "gamma",
            config.gamma,
            matches!(kind, MinSnr | SoftMinSnr | P2),
            "weighting \"min-snr\", \"soft-min-snr\" and \"p2\"",
        ),
        ("k", config.k, kind == P2, "weighting \"p2\""),
        (
            "bias",
            config.bias,
            kind == Sigmoid,
            "weighting \"sigmoid\"",
        ),
        (
            "sigma_data",
            config.sigma_data,
            edm || kind == Edm,
            "parametrization and weighting \"edm\"",
        ),
    ] {
        if let (Some(value), false) = (given, used) {
            return Err(format!("{key} = {value} is for {of}"));
        }
    }
    if config.learned_variance && process.schedule().is_none() {
        return Err("learned_variance needs a process with timesteps".to_owned());
    }
    let sigma_data = config.sigma_data.unwrap_or(SIGMA_DATA);
    let parametrization = match config.parametrization {
        ParametrizationKind::Epsilon => Parametrization::Epsilon,
        ParametrizationKind::X0 => Parametrization::X0,
        ParametrizationKind::V => Parametrization::V,
        ParametrizationKind::Flow => Parametrization::Flow,
        ParametrizationKind::Edm => Parametrization::Edm { sigma_data },
    };
    let gamma = |published: f64| config.gamma.unwrap_or(published);
    let weighting = match kind {
        Simple => Weighting::Simple,
        Vlb => Weighting::Vlb,
        MinSnr => Weighting::MinSnr { gamma: gamma(5.0) },
        SoftMinSnr => Weighting::SoftMinSnr { gamma: gamma(5.0) },
        P2 => Weighting::P2 {
            k: config.k.unwrap_or(1.0),
            gamma: gamma(1.0),
        },
        Edm => Weighting::Edm { sigma_data },
        Debiased => Weighting::Debiased,
        Sigmoid => Weighting::Sigmoid {
            bias: config.bias.unwrap_or(0.0),
        },
    };
    Objective::new(process, parametrization, weighting).map_err(|e| e.to_string())
}

/// How levels are drawn.
///
/// # Errors
///
/// If a number is of another distribution or out of range, or two ways exclude each other.
pub(super) fn levels(
    config: &config::Objective,
    process: &Process,
) -> Result<LevelSampling, String> {
    let normal = matches!(
        config.levels,
        LevelsKind::LogNormal | LevelsKind::LogitNormal
    );
    for (key, given) in [("mean", config.mean), ("std", config.std)] {
        if let (Some(value), false) = (given, normal) {
            let of = "levels \"log-normal\" and \"logit-normal\"";
            return Err(format!("{key} = {value} is for {of}"));
        }
    }
    let by_loss = config.importance_sampling;
    if by_loss && (config.levels != LevelsKind::Uniform || process.schedule().is_none()) {
        let reason = "importance_sampling draws timesteps by their losses: it needs a process with \
                      timesteps, and excludes other levels";
        return Err(reason.to_owned());
    }
    let levels = match config.levels {
        LevelsKind::Uniform => TrainingLevels::Uniform,
        LevelsKind::UniformSigma => TrainingLevels::UniformSigma { rho: 7.0 },
        LevelsKind::LogNormal => {
            let (mean, std) = (config.mean.unwrap_or(-1.2), config.std.unwrap_or(1.2));
            TrainingLevels::LogNormalSigma { mean, std }
        }
        LevelsKind::LogitNormal => {
            let (mean, std) = (config.mean.unwrap_or(0.0), config.std.unwrap_or(1.0));
            TrainingLevels::LogitNormalTime { mean, std }
        }
    };
    Ok(LevelSampling {
        distribution: levels.on(process).map_err(|e| e.to_string())?,
        stratified: config.stratified,
        by_loss,
    })
}
