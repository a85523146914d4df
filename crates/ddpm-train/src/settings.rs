//! What a trainer is told.

use std::collections::BTreeMap;

use ddpm_model::ConditionSpec;
use ddpm_schedule::{Objective, ParameterError, TrainingLevels};
use sha2::{Digest, Sha256};

use crate::level_draws::LevelSampling;
use crate::optim::{AdamW, Decay, LearningRate, Optimizer};
use crate::settings_error::SettingsError;

/// Threads beyond these prepare no batch sooner.
const MOST_WORKERS: usize = 1024;

/// What a [`Trainer`](crate::Trainer) is told beside the network and the data.
///
/// [`Settings::new`] has a default for everything but the objective; set the fields you want
/// otherwise:
///
/// ```
/// use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
/// use ddpm_train::Settings;
///
/// let schedule = NoiseSchedule::cosine(1000, 0.008)?;
/// let objective = Objective::new(schedule, Parametrization::V, Weighting::Simple)?;
/// let settings = Settings {
///     batch_size: 64,
///     steps: 10_000,
///     ..Settings::new(objective)?
/// };
/// assert_eq!(settings.seed, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is regressed.
    pub objective: Objective,
    /// How the levels of a batch are drawn; every time alike by default.
    pub levels: LevelSampling,
    /// Whether the network chooses the variance of the reverse step, trained by `L_hybrid`.
    pub learned_variance: bool,
    /// What the network is told about the classes of the rows; nothing by default.
    pub classes: Option<Classes>,
    /// Rows per step, 32 by default.
    pub batch_size: usize,
    /// Parts that a step's batch is computed in, one after the other, to save memory.
    pub accumulate: usize,
    /// Steps of the whole run, 1000 by default.
    pub steps: u64,
    /// Everything random in the run follows from it.
    pub seed: u64,
    /// Whether images are mirrored with probability ½.
    pub flip: bool,
    /// Threads that prepare batches.
    pub workers: usize,
    /// The optimizer before its first step, AdamW by default.
    pub optimizer: Box<dyn Optimizer>,
    /// The learning rate over the run; constant at 1e-3 by default.
    pub learning_rate: LearningRate,
    /// Largest joint norm of the gradients.
    pub clip: Option<f64>,
    /// Decays of the averages of the weights, each in [0, 1) and no two alike; 0.999 alone by default.
    ///
    /// The first is the average that [`Trainer::average`](crate::Trainer::average) gives. There must be
    /// one: a decay of 0 gives the weights themselves.
    pub ema: Vec<f64>,
}

/// What a network is told about classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Classes {
    /// How many there are; the data must have as many.
    pub count: usize,
    /// The class that means none, and the probability of training a row with it, for
    /// classifier-free guidance.
    pub dropout: Option<(usize, f64)>,
}

impl Settings {
    /// The default settings for an objective.
    ///
    /// # Errors
    ///
    /// If the objective's process has no uniform distribution of times.
    pub fn new(objective: Objective) -> Result<Self, ParameterError> {
        let distribution = TrainingLevels::Uniform.on(objective.process())?;
        Ok(Self {
            levels: LevelSampling {
                distribution,
                stratified: false,
                by_loss: false,
            },
            objective,
            learned_variance: false,
            classes: None,
            batch_size: 32,
            accumulate: 1,
            steps: 1000,
            seed: 0,
            flip: false,
            workers: 1,
            optimizer: Box::new(AdamW::default()),
            learning_rate: LearningRate {
                peak: 1e-3,
                warmup: 0,
                decay: Decay::Constant,
            },
            clip: None,
            ema: vec![0.999],
        })
    }
}

impl Settings {
    /// The conditions that a network is given in training.
    pub fn gives(&self) -> ConditionSpec {
        let Some(Classes { count, dropout }) = self.classes else {
            return ConditionSpec::none();
        };
        let null = dropout.map_or(0, |(null, _)| null.saturating_add(1));
        ConditionSpec::none().with_classes(count.max(null))
    }

    /// Checks that every number is in its range.
    ///
    /// # Errors
    ///
    /// With the first that is not.
    pub fn check(&self) -> Result<(), SettingsError> {
        let unit = |x: f64| (0.0..1.0).contains(&x);
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let peak = self.learning_rate.peak;
        let parts = self.accumulate;
        let dropout = self.classes.and_then(|classes| classes.dropout);
        let dropout = dropout.map_or(0.0, |(_, p)| p);
        let mut decays = self.ema.iter().enumerate();
        let distinct = decays.all(|(i, decay)| !self.ema[..i].contains(decay));
        // Comparisons are written so that NaN fails them.
        SettingsError::first([
            (
                "steps",
                self.steps >= 1,
                self.steps.to_string(),
                "at least 1",
            ),
            (
                "batch_size",
                self.batch_size >= 1,
                self.batch_size.to_string(),
                "at least 1",
            ),
            (
                "accumulate",
                parts >= 1 && self.batch_size.is_multiple_of(parts.max(1)),
                parts.to_string(),
                "at least 1 and a divisor of batch_size",
            ),
            (
                "workers",
                self.workers <= MOST_WORKERS,
                self.workers.to_string(),
                "at most 1024",
            ),
            (
                "learning_rate.peak",
                peak > 0.0 && peak <= 1.0,
                peak.to_string(),
                "in (0, 1]",
            ),
            (
                "clip",
                self.clip.is_none_or(positive),
                format!("{:?}", self.clip),
                "positive",
            ),
            (
                "ema",
                !self.ema.is_empty() && self.ema.iter().all(|&decay| unit(decay)) && distinct,
                format!("{:?}", self.ema),
                "one decay or several, each in [0, 1) and no two alike",
            ),
            (
                "classes.dropout",
                unit(dropout),
                dropout.to_string(),
                "in [0, 1)",
            ),
        ])?;
        self.optimizer.check()
    }

    /// The settings that make the run what it is, as text: a resumed run must have the same. The end
    /// of the run and the number of workers may change.
    pub fn identity(&self) -> BTreeMap<String, String> {
        let process = Sha256::digest(format!("{:?}", self.objective.process()));
        let levels = Sha256::digest(format!("{:?}", self.levels.distribution));
        let rate = self.learning_rate;
        let ema: Vec<_> = self.ema.iter().map(f64::to_string).collect();
        let entries = [
            ("objective.process", format!("{process:x}")),
            (
                "objective.parametrization",
                format!("{:?}", self.objective.parametrization()),
            ),
            (
                "objective.weighting",
                format!("{:?}", self.objective.weighting()),
            ),
            ("levels.distribution", format!("{levels:x}")),
            ("levels.stratified", self.levels.stratified.to_string()),
            ("levels.by_loss", self.levels.by_loss.to_string()),
            ("learned_variance", self.learned_variance.to_string()),
            ("classes", format!("{:?}", self.classes)),
            ("batch_size", self.batch_size.to_string()),
            ("accumulate", self.accumulate.to_string()),
            ("seed", self.seed.to_string()),
            ("flip", self.flip.to_string()),
            ("optimizer", self.optimizer.identity()),
            ("learning_rate", format!("{rate:?}")),
            ("clip", format!("{:?}", self.clip)),
            ("ema", ema.join(", ")),
        ];
        let entries = entries.into_iter();
        entries.map(|(key, text)| (key.to_owned(), text)).collect()
    }
}
