//! A configuration that has been checked: values that cannot be invalid.

mod keys;
mod load;
mod objective;
mod process;
mod refusal;
mod sampling;

use ddpm_data::{Channels, Source};
use ddpm_schedule::Objective;
use ddpm_train::checkpoint::Retention;
use ddpm_train::level_draws::LevelSampling;
use ddpm_train::optim::{AdamW, AdamWSettings, LearningRate, Muon, MuonSettings, Optimizer};
use ddpm_train::{Classes, Settings};

use crate::config::{self, Config, ConfigError, DataKind, ImageSize, Model, OptimizerKind};

use refusal::Refusal;

pub use process::{beta_ends, process, schedule};
pub use sampling::{Sampler, SamplingPlan, check_variance, grid};

/// A checked [`Config`].
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was made from; written into the run.
    pub config: Config,
    /// Where the rows come from.
    pub source: Source,
    /// What the trainer is told.
    pub settings: Settings,
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
        let process = process(&config.process).map_err(|reason| bad("process", reason))?;
        let images = !config.data.kind.is_points();
        let sampling = sampling::sampling(&config.sampling, images, &process)
            .map_err(|(key, reason)| bad(key, reason))?;
        check_variance(&sampling.sampler, config.objective.learned_variance)
            .map_err(|reason| bad("sampling.sampler", reason))?;
        let refuse = |reason| bad("objective", reason);
        let objective = objective::objective(&config.objective, process).map_err(refuse)?;
        let levels = objective::levels(&config.objective, objective.process()).map_err(refuse)?;
        let model = config.model.check();
        model.map_err(|error| bad("model", error.to_string()))?;
        if let (Model::UNet(unet), true) = (&config.model, config.objective.class_dropout > 0.0)
            && unet.num_classes.is_some()
            && !unet.null_class
        {
            let reason = "a network without a null class has nothing to drop to".to_owned();
            return Err(bad("objective.class_dropout", reason));
        }
        if images != matches!(config.model, Model::UNet(_)) {
            let reason = "images need kind \"unet\", points need \"mlp\"".to_owned();
            return Err(bad("model.kind", reason));
        }
        let settings = settings(&config, objective, levels);
        Ok(Self {
            source,
            settings,
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
        self.settings.classes.map(|classes| classes.count)
    }

    /// The class that means none. Without class dropout nothing trains it, and it means nothing.
    pub fn null_class(&self) -> Option<usize> {
        let dropout = self.settings.classes?.dropout;
        dropout.map(|(null, _)| null)
    }
}

/// What the trainer is told of a configuration.
fn settings(config: &Config, objective: Objective, levels: LevelSampling) -> Settings {
    let p = config.objective.class_dropout;
    let classes = match &config.model {
        Model::UNet(unet) => unet.num_classes.map(|count| Classes {
            count,
            dropout: unet.null_class().filter(|_| p > 0.0).map(|null| (null, p)),
        }),
        Model::Mlp(_) => None,
    };
    let optimizer = &config.optimizer;
    Settings {
        objective,
        levels,
        learned_variance: config.objective.learned_variance,
        classes,
        batch_size: config.batch_size,
        accumulate: config.accumulate,
        steps: config.steps,
        seed: config.seed,
        flip: config.data.flip,
        workers: config.data.workers,
        optimizer: self::optimizer(optimizer),
        learning_rate: LearningRate {
            peak: optimizer.learning_rate,
            warmup: optimizer.warmup,
            decay: optimizer.decay.into(),
        },
        clip: optimizer.clip,
        ema: config.ema.decay.as_slice().to_vec(),
    }
}

fn optimizer(config: &config::Optimizer) -> Box<dyn Optimizer> {
    let adamw = AdamWSettings {
        beta_1: config.beta_1,
        beta_2: config.beta_2,
        epsilon: config.epsilon,
        weight_decay: config.weight_decay,
    };
    let momentum = config.momentum.unwrap_or(MuonSettings::default().momentum);
    match config.kind {
        OptimizerKind::Adamw => Box::new(AdamW::new(adamw)),
        OptimizerKind::Muon => Box::new(Muon::new(MuonSettings { momentum, adamw })),
    }
}

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
