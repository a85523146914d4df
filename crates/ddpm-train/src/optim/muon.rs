//! Muon for the matrices within a network, AdamW for the rest.

use std::fmt;
use std::sync::Arc;

use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdjustLrFn, MuonConfig};
use burn::tensor::{Device, Tensor};

use super::adamw::{AdamW, AdamWSettings};
use super::burn_optim::BurnOptimizer;
use super::optimizer::{Average, Optimizer, Parameter, Step};
use super::state::OptimizerState;
use crate::params::Shapes;
use crate::settings_error::SettingsError;

/// What [`Muon`] is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonSettings {
    /// Momentum μ of the matrices, in [0, 1); 0.95 by default.
    pub momentum: f64,
    /// AdamW's numbers for the other parameters. The weight decay is that of all parameters.
    pub adamw: AdamWSettings,
}

impl Default for MuonSettings {
    fn default() -> Self {
        Self {
            momentum: 0.95,
            adamw: AdamWSettings::default(),
        }
    }
}

/// Whether Muon updates the parameter of a name and a shape.
type Choice = Arc<dyn Fn(&str, &[usize]) -> bool + Send + Sync>;

/// Muon (Jordan et al. 2024) for the matrices within a network, [`AdamW`] for all other parameters.
///
/// ```text
/// M ← μ·M + G
/// O ← NewtonSchulz₅(μ·M + G), about U·Vᵀ where U·Σ·Vᵀ is the argument
/// W ← W − η·λ·W − 0.2·√max(A, B)·η·O          for W of shape [A, B]
/// ```
///
/// A convolution's kernel of shape `[out, in, h, w]` is the matrix `[out, in·h·w]`. The factor is that of
/// Liu et al. 2025, equation 4: it gives the updates the size that AdamW's have, so that one learning rate
/// and one weight decay serve all parameters.
///
/// A checkpoint holds M as `muon.NAME.momentum.velocity`, and the moments of the others as [`AdamW`]
/// names them.
#[derive(Clone)]
pub struct Muon {
    settings: MuonSettings,
    choice: Choice,
    matrices: BurnOptimizer<burn::optim::Muon>,
    others: AdamW,
}

impl fmt::Debug for Muon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

const PREFIX: &str = "muon.";

impl Muon {
    /// An optimizer that has seen nothing, of the parameters that [`is_hidden`] chooses.
    // Burn's numbers are f32.
    #[allow(clippy::cast_possible_truncation)]
    pub fn new(settings: MuonSettings) -> Self {
        let decay = settings.adamw.weight_decay as f32;
        let momentum = MomentumConfig {
            momentum: settings.momentum,
            dampening: 0.0,
            nesterov: true,
        };
        let config = MuonConfig::new()
            .with_momentum(momentum)
            .with_weight_decay((decay > 0.0).then(|| WeightDecayConfig::new(decay)))
            .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW);
        Self {
            settings,
            choice: Arc::new(is_hidden),
            matrices: BurnOptimizer::new("Muon", config.build()),
            others: AdamW::new(settings.adamw),
        }
    }

    /// Muon updates the parameters for which `choice(name, shape)` is true, of those with two axes or
    /// more. A resumed run must make the same choice; a checkpoint of another one is refused.
    #[must_use]
    pub fn choose(
        mut self,
        choice: impl Fn(&str, &[usize]) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.choice = Arc::new(choice);
        self
    }

    fn is_matrix(&self, name: &str, shape: &[usize]) -> bool {
        shape.len() >= 2 && (self.choice)(name, shape)
    }
}

/// Words in the name of the first or the last layer, or of what reads the time or the class.
const ENDS: [&str; 11] = [
    "in", "out", "input", "output", "first", "last", "final", "head", "time", "class", "label",
];

/// The default choice of [`Muon`]: every weight with two axes or more, except in embeddings, in the first
/// layer and in the last.
///
/// These are known by their names. An embedding has `emb` in a part of its path; a projection of an
/// embedding within a block, `…_emb_proj`, is none. The first and the last layer, and what reads the time
/// or the class, have a word at the top of the network: `conv_in`, `linear_out`, `input`, `head`,
/// `final_layer`, `time`, `class`, `label`.
pub fn is_hidden(name: &str, shape: &[usize]) -> bool {
    let is_embedding = |part: &str| part.contains("emb") && !part.ends_with("_proj");
    let top = name.split('.').next().unwrap_or_default();
    let is_end = top.split('_').any(|word| ENDS.contains(&word));
    shape.len() >= 2 && !is_end && !name.split('.').any(is_embedding)
}

/// The matrix that a parameter of two axes or more is for Muon.
fn matrix(shape: &[usize]) -> [usize; 2] {
    [shape[0], shape[1..].iter().product()]
}

impl Optimizer for Muon {
    fn identity(&self) -> String {
        format!("{:?}", self.settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        let momentum = self.settings.momentum;
        SettingsError::first([(
            "optimizer.momentum",
            (0.0..1.0).contains(&momentum),
            momentum.to_string(),
            "in [0, 1)",
        )])?;
        self.settings.adamw.check()
    }

    fn step(&mut self, parameter: Parameter, gradient: Tensor<1>, step: &Step) -> Tensor<1> {
        if !self.is_matrix(parameter.name, parameter.shape) {
            return self.others.step(parameter, gradient, step);
        }
        let parameter = Parameter {
            shape: &matrix(parameter.shape),
            ..parameter
        };
        self.matrices.step(parameter, gradient, step)
    }

    fn step_and_average(
        &mut self,
        parameter: Parameter,
        gradient: Tensor<1>,
        step: &Step,
        average: Average,
    ) -> (Tensor<1>, Tensor<1>) {
        if !self.is_matrix(parameter.name, parameter.shape) {
            let others = &mut self.others;
            return others.step_and_average(parameter, gradient, step, average);
        }
        let value = self.step(parameter, gradient, step);
        let average = average.follow(&value);
        (value, average)
    }

    fn state(&self) -> Result<OptimizerState, String> {
        let mut state = self.others.state()?;
        state.extend(self.matrices.state()?.under(PREFIX));
        Ok(state)
    }

    fn restore(
        &mut self,
        mut state: OptimizerState,
        shapes: &Shapes,
        device: &Device,
    ) -> Result<(), String> {
        let all = shapes.clone().into_iter();
        let (matrices, others): (Shapes, Shapes) =
            all.partition(|(name, shape)| self.is_matrix(name, shape));
        let matrices = matrices.into_iter();
        let matrices = matrices.map(|(name, shape)| (name, matrix(&shape).to_vec()));
        let of_matrices = state.take(PREFIX);
        self.matrices
            .restore(of_matrices, &matrices.collect(), device)?;
        self.others.restore(state, &others, device)
    }

    fn boxed(&self) -> Box<dyn Optimizer> {
        Box::new(self.clone())
    }
}
