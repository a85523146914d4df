//! A configuration that has been checked: values that cannot be invalid.

mod keys;

use ddpm_model::{MlpConfig, UNetConfig};
use ddpm_process::Clip;
use ddpm_schedule::{
    Eta, NoiseSchedule, Objective, Parametrization, Sampler, Spacing, Trajectory, Weighting,
};

use crate::checkpoint::Retention;
use crate::config::{
    Config, ConfigError, DataKind, ImageSize, Model, ParametrizationKind, SamplerKind, Sampling,
    Schedule, ScheduleKind, WeightingKind,
};
use crate::data::{Channels, Source};
use crate::optim::{AdamWSettings, LearningRate};

/// Timesteps beyond these would be a table of a size that no network was trained on.
pub(crate) const MOST_TIMESTEPS: u32 = 1_000_000;

/// Threads beyond these prepare no batch sooner.
const MOST_WORKERS: usize = 1024;

/// The network a plan asks for. Channels come from the data, which is not loaded yet.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkPlan {
    /// For images; `in_channels` and `out_channels` are still to be set.
    UNet(UNetConfig),
    /// For points; `out_features` is still to be set.
    Mlp(MlpConfig),
}

/// How samples are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingPlan {
    /// The rule of a step.
    pub sampler: Sampler,
    /// The times visited.
    pub trajectory: Trajectory,
    /// The range x̂₀ is kept in: that of images, none for points.
    pub clip: Option<Clip>,
}

/// A checked [`Config`].
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was made from; written into the run.
    pub config: Config,
    /// Where the rows come from.
    pub source: Source,
    /// Schedule, parametrization and weighting.
    pub objective: Objective,
    /// The network.
    pub network: NetworkPlan,
    /// AdamW's numbers.
    pub adamw: AdamWSettings,
    /// The learning rate's course.
    pub learning_rate: LearningRate,
    /// How the pictures on the way are drawn.
    pub sampling: SamplingPlan,
    /// Which checkpoints are kept.
    pub keep: Retention,
}

impl Plan {
    /// Checks a configuration; `file` is what errors call it.
    ///
    /// # Errors
    ///
    /// At the first value that makes no sense, with its key and the reason.
    pub fn new(config: Config, file: &str) -> Result<Self, ConfigError> {
        let bad = |key: &'static str, reason: String| ConfigError::Invalid {
            file: file.to_owned(),
            key,
            reason,
        };
        keys::check_ranges(&config).map_err(|(key, reason)| bad(key, reason))?;
        keys::check_use(&config).map_err(|(key, reason)| bad(key, reason))?;
        let source = source(&config).map_err(|(key, reason)| bad(key, reason))?;
        let schedule = schedule(&config.schedule).map_err(|reason| bad("schedule", reason))?;
        let images = !config.data.kind.is_points();
        let sampling = sampling(&config.sampling, images, &schedule)
            .map_err(|reason| bad("sampling", reason))?;
        check_variance(sampling.sampler, config.objective.learned_variance)
            .map_err(|reason| bad("sampling.sampler", reason))?;
        let objective = objective(&config, schedule).map_err(|reason| bad("objective", reason))?;
        let network = network(&config.model);
        check_network(&network).map_err(|reason| bad("model", reason))?;
        if let (Model::UNet(unet), true) = (&config.model, config.objective.class_dropout > 0.0)
            && unet.num_classes.is_some()
            && !unet.null_class
        {
            let reason = "a network without a null class has nothing to drop to".to_owned();
            return Err(bad("objective.class_dropout", reason));
        }
        if images != matches!(network, NetworkPlan::UNet(_)) {
            let reason = "images need kind \"unet\", points need \"mlp\"".to_owned();
            return Err(bad("model.kind", reason));
        }
        Ok(Self {
            source,
            objective,
            network,
            adamw: AdamWSettings {
                beta_1: config.optimizer.beta_1,
                beta_2: config.optimizer.beta_2,
                epsilon: config.optimizer.epsilon,
                weight_decay: config.optimizer.weight_decay,
            },
            learning_rate: LearningRate {
                peak: config.optimizer.learning_rate,
                warmup: config.optimizer.warmup,
                cosine: config.optimizer.cosine_decay,
            },
            sampling,
            keep: Retention {
                last: config.checkpoint.keep_last,
                every: config.checkpoint.keep_every,
                best: config.checkpoint.keep_best,
                window: config.checkpoint.every,
            },
            config,
        })
    }

    /// Classes the network is conditioned on.
    pub fn classes(&self) -> Option<usize> {
        match &self.network {
            NetworkPlan::UNet(config) => config.num_classes,
            NetworkPlan::Mlp(_) => None,
        }
    }

    /// The class that means none. Without class dropout nothing trains it, and it means nothing.
    pub fn null_class(&self) -> Option<usize> {
        match &self.network {
            NetworkPlan::UNet(config) if self.config.objective.class_dropout > 0.0 => {
                config.null_class()
            }
            _ => None,
        }
    }
}

/// A key, and what is wrong with its value.
type Refusal = (&'static str, String);

fn source(config: &Config) -> Result<Source, Refusal> {
    let data = &config.data;
    let path = || {
        data.path.clone().ok_or_else(|| {
            let reason = "missing: name the folder here or with --data".to_owned();
            ("data.path", reason)
        })
    };
    let points = || match data.points {
        Some(0) => Err(("data.points", "0 must be at least 1".to_owned())),
        points => Ok(points.unwrap_or(10_000)),
    };
    Ok(match data.kind {
        DataKind::Digits => Source::Digits,
        DataKind::Idx => Source::Idx { path: path()? },
        DataKind::Cifar10 => Source::Cifar10 { path: path()? },
        DataKind::Images => Source::Images {
            path: path()?,
            size: match data.size.map(ImageSize::sides) {
                Some(sides @ [1..=4096, 1..=4096]) => sides,
                Some([height, width]) => {
                    let reason = format!("{height}×{width} must be in 1..=4096");
                    return Err(("data.size", reason));
                }
                None => {
                    let reason = "missing: the side or [height, width] in pixels";
                    return Err(("data.size", reason.to_owned()));
                }
            },
            channels: match data.channels.unwrap_or(3) {
                1 => Channels::Gray,
                3 => Channels::Rgb,
                n => return Err(("data.channels", format!("{n} must be 1 or 3"))),
            },
        },
        DataKind::SwissRoll => Source::SwissRoll {
            points: points()?,
            seed: config.seed,
        },
        DataKind::TwoMoons => Source::TwoMoons {
            points: points()?,
            seed: config.seed,
        },
    })
}

/// The noise schedule a `[schedule]` table describes, with the published defaults for what it
/// leaves out: β from 1e-4 to 0.02, the cosine's s = 0.008, the sigmoid's (−3, 3, 1), σ = 1/√T.
///
/// # Errors
///
/// If a number is out of its range or of another family's; the message names it.
pub fn schedule(config: &Schedule) -> Result<NoiseSchedule, String> {
    let steps = config.timesteps;
    if steps > MOST_TIMESTEPS {
        return Err(format!("{steps} timesteps are more than {MOST_TIMESTEPS}"));
    }
    let betas = matches!(
        config.kind,
        ScheduleKind::Linear | ScheduleKind::ScaledLinear
    );
    for (key, given, used) in [
        ("beta_start", config.beta_start, betas),
        ("beta_end", config.beta_end, betas),
        (
            "sigma",
            config.sigma,
            config.kind == ScheduleKind::RandomWalk,
        ),
    ] {
        if let (Some(value), false) = (given, used) {
            return Err(format!("{key} = {value} means nothing to this kind"));
        }
    }
    let (start, end) = beta_ends(config);
    let schedule = match config.kind {
        ScheduleKind::Linear => NoiseSchedule::linear(steps, start, end),
        ScheduleKind::ScaledLinear => NoiseSchedule::scaled_linear(steps, start, end),
        ScheduleKind::Cosine => NoiseSchedule::cosine(steps, 0.008),
        ScheduleKind::Sigmoid => NoiseSchedule::sigmoid(steps, -3.0, 3.0, 1.0),
        ScheduleKind::RandomWalk => {
            let sigma = config.sigma.unwrap_or(1.0 / f64::from(steps.max(1)).sqrt());
            NoiseSchedule::random_walk(steps, sigma)
        }
    };
    let schedule = if config.zero_terminal_snr {
        schedule.and_then(|s| s.rescale_zero_terminal_snr())
    } else {
        schedule
    };
    schedule.map_err(|e| e.to_string())
}

/// β₁ and β_T of the families that have them, Ho et al.'s by default.
pub fn beta_ends(config: &Schedule) -> (f64, f64) {
    (
        config.beta_start.unwrap_or(1e-4),
        config.beta_end.unwrap_or(0.02),
    )
}

/// A sampler by its name.
///
/// # Errors
///
/// If η is outside [0, 1].
pub fn sampler(kind: SamplerKind, eta: f64) -> Result<Sampler, String> {
    let eta = Eta::new(eta).map_err(|e| e.to_string())?;
    Ok(match kind {
        SamplerKind::Ancestral => Sampler::ANCESTRAL,
        SamplerKind::AncestralBeta => Sampler::AncestralBeta,
        SamplerKind::AncestralLearned => Sampler::AncestralLearned,
        SamplerKind::Ddim => Sampler::Ddim { eta },
        SamplerKind::DpmPp2M => Sampler::DpmPp2M,
    })
}

/// The pictures on the way: times spread by the trailing rule, so that the first is always T.
fn sampling(
    config: &Sampling,
    images: bool,
    schedule: &NoiseSchedule,
) -> Result<SamplingPlan, String> {
    let trajectory = Spacing::Trailing.trajectory(schedule, config.steps);
    Ok(SamplingPlan {
        sampler: sampler(config.sampler, config.eta)?,
        trajectory: trajectory.map_err(|e| e.to_string())?,
        clip: images.then_some(Clip::UNIT),
    })
}

/// Whether the sampler can have its variance: only a network trained for it chooses one.
///
/// # Errors
///
/// If the sampler asks for a variance that the network does not give.
pub fn check_variance(sampler: Sampler, learned: bool) -> Result<(), String> {
    if sampler == Sampler::AncestralLearned && !learned {
        let reason = "\"ancestral-learned\" is for networks of objective.learned_variance = true";
        return Err(reason.to_owned());
    }
    Ok(())
}

fn objective(config: &Config, schedule: NoiseSchedule) -> Result<Objective, String> {
    let parametrization = match config.objective.parametrization {
        ParametrizationKind::Epsilon => Parametrization::Epsilon,
        ParametrizationKind::X0 => Parametrization::X0,
        ParametrizationKind::V => Parametrization::V,
    };
    if let (Some(gamma), false) = (
        config.objective.gamma,
        config.objective.weighting == WeightingKind::MinSnr,
    ) {
        return Err(format!("gamma = {gamma} is for weighting \"min-snr\""));
    }
    let weighting = match config.objective.weighting {
        WeightingKind::Simple => Weighting::Simple,
        WeightingKind::Vlb => Weighting::Vlb,
        WeightingKind::MinSnr => Weighting::MinSnr {
            gamma: config.objective.gamma.unwrap_or(5.0),
        },
    };
    Objective::new(schedule, parametrization, weighting).map_err(|e| e.to_string())
}

fn network(model: &Model) -> NetworkPlan {
    match model {
        // Three channels stand in for the data's until it is loaded.
        Model::UNet(unet) => NetworkPlan::UNet(unet.config(3)),
        Model::Mlp(mlp) => NetworkPlan::Mlp(MlpConfig {
            features: 2,
            out_features: 2,
            hidden: mlp.hidden,
            layers: mlp.layers,
        }),
    }
}

fn check_network(network: &NetworkPlan) -> Result<(), String> {
    match network {
        NetworkPlan::UNet(config) => config.check(),
        NetworkPlan::Mlp(config) => config.check(),
    }
    .map_err(|e| e.to_string())
}
