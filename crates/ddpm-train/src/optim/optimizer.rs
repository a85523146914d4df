//! What the trainer asks of an optimizer.

use std::fmt;

use burn::tensor::{Device, Tensor};

use super::state::OptimizerState;
use crate::params::Shapes;
use crate::settings_error::SettingsError;

/// A parameter of the network.
pub struct Parameter<'a> {
    /// Its path in the network, `down_blocks.0.resnets.1.conv1.weight`.
    pub name: &'a str,
    /// Its shape in the network.
    pub shape: &'a [usize],
    /// Its values, flat.
    pub value: Tensor<1>,
}

/// What is the same for all parameters in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Which step this is, from 1.
    pub number: u64,
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// The factor of the gradients that clips them; 1 leaves them as they are.
    pub clip: f64,
}

/// A moving average of a parameter.
pub struct Average {
    /// The average, flat.
    pub value: Tensor<1>,
    /// Its decay d in this step.
    pub decay: f64,
}

impl Average {
    /// The average after the parameter became `value`.
    ///
    /// ```text
    /// ē ← ē + (1 − d)·(e − ē)
    /// ```
    pub fn follow(self, value: &Tensor<1>) -> Tensor<1> {
        let toward = value.clone() - self.value.clone();
        self.value + toward * (1.0 - self.decay)
    }
}

/// An optimizer over named parameters, with its state.
///
/// [`AdamW`](super::AdamW) and [`Muon`](super::Muon) are ready to use, and
/// [`BurnOptimizer`](super::BurnOptimizer) makes one of any optimizer of Burn. Implement the trait for
/// your own:
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ddpm_train::optim::{Optimizer, OptimizerState, Parameter, Step};
/// use ddpm_train::params::Shapes;
///
/// /// θ ← θ − η·g
/// #[derive(Clone, Debug)]
/// struct Descent;
///
/// impl Optimizer for Descent {
///     fn identity(&self) -> String {
///         "Descent".to_owned()
///     }
///
///     fn step(&mut self, parameter: Parameter, gradient: Tensor<1>, step: &Step) -> Tensor<1> {
///         parameter.value - gradient * (step.learning_rate * step.clip)
///     }
///
///     fn state(&self) -> Result<OptimizerState, String> {
///         Ok(OptimizerState::default())
///     }
///
///     fn restore(&mut self, state: OptimizerState, _: &Shapes, _: &Device) -> Result<(), String> {
///         state.is_empty().then_some(()).ok_or("Descent keeps nothing".to_owned())
///     }
///
///     fn boxed(&self) -> Box<dyn Optimizer> {
///         Box::new(self.clone())
///     }
/// }
/// # let one = Tensor::from_floats([1.0], &Device::flex());
/// # let step = Step { number: 1, learning_rate: 0.5, clip: 1.0 };
/// # let one = Parameter { name: "", shape: &[1], value: one };
/// # let half = Descent.step(one, Tensor::from_floats([1.0], &Device::flex()), &step);
/// # assert_eq!(half.into_scalar::<f32>(), 0.5);
/// ```
pub trait Optimizer: fmt::Debug + Send + Sync {
    /// The optimizer's name and numbers, as text. A resumed run must have the same.
    fn identity(&self) -> String;

    /// Checks that every number is in its range.
    ///
    /// # Errors
    ///
    /// With the first that is not.
    fn check(&self) -> Result<(), SettingsError> {
        Ok(())
    }

    /// The new values of a parameter, flat. `gradient`, of the same length, still is to be multiplied
    /// by [`Step::clip`].
    ///
    /// A parameter that has no gradient, because it is frozen or because the loss does not depend on
    /// it, is not asked for.
    fn step(&mut self, parameter: Parameter, gradient: Tensor<1>, step: &Step) -> Tensor<1>;

    /// The new values of a parameter, as [`step`](Self::step) gives them, and their average. Override
    /// it where both are done in one pass over the memory.
    fn step_and_average(
        &mut self,
        parameter: Parameter,
        gradient: Tensor<1>,
        step: &Step,
        average: Average,
    ) -> (Tensor<1>, Tensor<1>) {
        let value = self.step(parameter, gradient, step);
        let average = average.follow(&value);
        (value, average)
    }

    /// What the optimizer has gathered so far, for a checkpoint.
    ///
    /// # Errors
    ///
    /// If a tensor cannot be read from its device.
    fn state(&self) -> Result<OptimizerState, String>;

    /// Replaces what the optimizer has gathered. `shapes` has the parameters that are trained.
    ///
    /// # Errors
    ///
    /// If the state is not one of this optimizer for these parameters, with the name that does not fit.
    fn restore(
        &mut self,
        state: OptimizerState,
        shapes: &Shapes,
        device: &Device,
    ) -> Result<(), String>;

    /// A copy with its state.
    fn boxed(&self) -> Box<dyn Optimizer>;
}

impl Clone for Box<dyn Optimizer> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}
