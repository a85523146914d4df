//! AdamW, by a kernel that moves the average too.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_kernels::adamw;

use super::optimizer::{Average, Optimizer, Parameter, Step};
use super::state::OptimizerState;
use crate::params::{Named, Shapes};
use crate::settings_error::SettingsError;

/// What [`AdamW`] is told; by default what PyTorch's is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the mean of the gradients, β₁, in [0, 1).
    pub beta_1: f64,
    /// Decay of the mean of their squares, β₂, in [0, 1).
    pub beta_2: f64,
    /// Added to the root of the second moment, ε.
    pub epsilon: f64,
    /// Decoupled weight decay λ, a multiple of the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
        }
    }
}

impl AdamWSettings {
    /// Checks that every number is in its range.
    ///
    /// # Errors
    ///
    /// With the first that is not, as `optimizer.NAME`.
    pub fn check(&self) -> Result<(), SettingsError> {
        let unit = |x: f64| (0.0..1.0).contains(&x);
        // Comparisons are written so that NaN fails them.
        let decay = self.weight_decay;
        SettingsError::first([
            (
                "optimizer.beta_1",
                unit(self.beta_1),
                self.beta_1.to_string(),
                "in [0, 1)",
            ),
            (
                "optimizer.beta_2",
                unit(self.beta_2),
                self.beta_2.to_string(),
                "in [0, 1)",
            ),
            (
                "optimizer.epsilon",
                self.epsilon > 0.0 && self.epsilon.is_finite(),
                self.epsilon.to_string(),
                "positive",
            ),
            (
                "optimizer.weight_decay",
                decay >= 0.0 && decay.is_finite(),
                decay.to_string(),
                "not negative",
            ),
        ])
    }
}

/// AdamW (Loshchilov & Hutter 2019, Algorithm 2), in PyTorch's order of operations.
///
/// ```text
/// θ ← θ − η·λ·θ
/// m ← β₁·m + (1 − β₁)·g
/// v ← β₂·v + (1 − β₂)·g²
/// θ ← θ − η·m/(1 − β₁ⁿ) / (√(v/(1 − β₂ⁿ)) + ε)
/// ```
///
/// n is the step's number. The moments m and v are kept by the names of the parameters. A checkpoint
/// holds them as `exp_avg.NAME` and `exp_avg_sq.NAME`.
#[derive(Clone, Debug, Default)]
pub struct AdamW {
    settings: AdamWSettings,
    /// m
    exp_avg: Named,
    /// v
    exp_avg_sq: Named,
}

impl AdamW {
    /// An optimizer that has seen nothing.
    pub fn new(settings: AdamWSettings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// What it is told.
    pub fn settings(&self) -> AdamWSettings {
        self.settings
    }
}

const EXP_AVG: &str = "exp_avg.";
const EXP_AVG_SQ: &str = "exp_avg_sq.";

impl Optimizer for AdamW {
    fn identity(&self) -> String {
        format!("{:?}", self.settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        self.settings.check()
    }

    fn step(&mut self, parameter: Parameter, gradient: Tensor<1>, step: &Step) -> Tensor<1> {
        let average = Average {
            value: parameter.value.clone(),
            decay: 0.0,
        };
        self.step_and_average(parameter, gradient, step, average).0
    }

    fn step_and_average(
        &mut self,
        parameter: Parameter,
        gradient: Tensor<1>,
        step: &Step,
        average: Average,
    ) -> (Tensor<1>, Tensor<1>) {
        let Parameter { name, value, .. } = parameter;
        let take = |named: &mut Named| named.remove(name).unwrap_or_else(|| value.zeros_like());
        let parameter = ddpm_kernels::Parameter {
            exp_avg: take(&mut self.exp_avg),
            exp_avg_sq: take(&mut self.exp_avg_sq),
            ema: average.value,
            value,
        };
        let numbers = ddpm_kernels::AdamW {
            lr: step.learning_rate,
            beta1: self.settings.beta_1,
            beta2: self.settings.beta_2,
            eps: self.settings.epsilon,
            weight_decay: self.settings.weight_decay,
            step: step.number,
            ema_decay: average.decay,
            clip: step.clip,
        };
        let parameter = adamw(parameter, gradient, &numbers);
        self.exp_avg.insert(name.to_owned(), parameter.exp_avg);
        self.exp_avg_sq
            .insert(name.to_owned(), parameter.exp_avg_sq);
        (parameter.value, parameter.ema)
    }

    fn state(&self) -> Result<OptimizerState, String> {
        let mut state = OptimizerState::default();
        for (prefix, moments) in [(EXP_AVG, &self.exp_avg), (EXP_AVG_SQ, &self.exp_avg_sq)] {
            for (name, moment) in moments {
                let values = moment.try_to_vec_as::<f32>().map_err(|e| e.to_string())?;
                let shape = [values.len()];
                let data = TensorData::new(values, shape);
                state.tensors.insert(format!("{prefix}{name}"), data);
            }
        }
        Ok(state)
    }

    fn restore(
        &mut self,
        mut state: OptimizerState,
        shapes: &Shapes,
        device: &Device,
    ) -> Result<(), String> {
        let [exp_avg, exp_avg_sq] = [EXP_AVG, EXP_AVG_SQ].map(|prefix| state.take(prefix).tensors);
        if let Some(name) = state.tensors.keys().chain(state.scalars.keys()).next() {
            return Err(format!("{name} is no state of AdamW"));
        }
        if !exp_avg.keys().eq(exp_avg_sq.keys()) {
            return Err("exp_avg and exp_avg_sq name different parameters".to_owned());
        }
        let load = |moments: std::collections::BTreeMap<String, TensorData>| {
            let moments = moments.into_iter().map(|(name, data)| {
                let length = shapes.get(&name).map(|shape| shape.iter().product());
                if length.is_none_or(|length: usize| data.shape().as_slice() != [length]) {
                    return Err(format!(
                        "the moments of {name} are not those of a trained parameter of the network"
                    ));
                }
                Ok((name, Tensor::from_data(data, device)))
            });
            moments.collect::<Result<Named, _>>()
        };
        (self.exp_avg, self.exp_avg_sq) = (load(exp_avg)?, load(exp_avg_sq)?);
        Ok(())
    }

    fn boxed(&self) -> Box<dyn Optimizer> {
        Box::new(self.clone())
    }
}
