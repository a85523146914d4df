//! What training and sampling ask of a network.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::condition::{Condition, ConditionSpec};

/// Where dropout masks come from: given p in [0, 1) and the shape `[B, H, W, C]` of an activation, a
/// tensor of that shape with 0 where a value is dropped and 1/(1 − p) where it is kept.
///
/// Passing `None` for the masks of a forward pass is evaluation: nothing is dropped.
pub type Masks<'a> = dyn FnMut(f64, [usize; 4]) -> Tensor<4> + 'a;

/// A network on `[B, …]` tensors of rank `D`: 4 for images `[B, C, H, W]`, 2 for points `[B, F]`.
///
/// [`UNet`](crate::UNet) and [`Mlp`](crate::Mlp) are networks, and so is any Burn module with this
/// function:
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor, activation::silu};
/// use ddpm_model::{Condition, ConditionSpec, Masks, Network, sinusoidal_embedding};
///
/// /// Points of the plane with a label of five numbers each.
/// #[derive(Module, Debug)]
/// struct Labelled {
///     input: Linear,
///     time: Linear,
///     label: Linear,
///     output: Linear,
/// }
///
/// impl Network<2> for Labelled {
///     fn takes(&self) -> ConditionSpec {
///         ConditionSpec::none().with_vector(5)
///     }
///
///     fn predict(
///         &self,
///         x_t: Tensor<2>,
///         t: Tensor<1>,
///         condition: &Condition,
///         _masks: Option<&mut Masks>,
///     ) -> Tensor<2> {
///         self.takes().assert(condition, x_t.dims()[0]);
///         let mut h = self.input.forward(x_t);
///         h = h + self.time.forward(sinusoidal_embedding(t, 32, false, 1.0));
///         if let Some(label) = &condition.vector {
///             h = h + self.label.forward(label.clone());
///         }
///         self.output.forward(silu(h))
///     }
/// }
///
/// let device = Device::flex();
/// let linear = |input, output| LinearConfig::new(input, output).init(&device);
/// let network = Labelled {
///     input: linear(2, 64),
///     time: linear(32, 64),
///     label: linear(5, 64),
///     output: linear(64, 2),
/// };
/// let x_t = Tensor::zeros([3, 2], &device);
/// let t = Tensor::from_floats([0.0, 10.0, 20.0], &device);
/// let labels = Condition::none().with_vector(Tensor::ones([3, 5], &device));
/// assert_eq!(network.predict(x_t, t, &labels, None).dims(), [3, 2]);
/// ```
pub trait Network<const D: usize>: Module + Sync + 'static {
    /// Which conditions [`predict`](Self::predict) takes; none, unless the network says otherwise.
    ///
    /// Training and sampling [compare](ConditionSpec::admits) the conditions they have with it before
    /// their first step.
    fn takes(&self) -> ConditionSpec {
        ConditionSpec::none()
    }

    /// The output for `x_t`, of the shape of `x_t`, or with twice the channels if the network
    /// predicts the variance too.
    ///
    /// * `x_t`: `[B, …]`;
    /// * `t`: `[B]`, the time of each row as the process tells it to networks; on a discrete
    ///   schedule that is t − 1, the timestep of published checkpoints;
    /// * `condition`: what [`takes`](Self::takes) names, one row per row of `x_t`;
    /// * `masks`: where dropout masks come from, `None` in evaluation.
    ///
    /// # Panics
    ///
    /// If shapes disagree, or [`takes`](Self::takes) does not admit the condition.
    fn predict(
        &self,
        x_t: Tensor<D>,
        t: Tensor<1>,
        condition: &Condition,
        masks: Option<&mut Masks>,
    ) -> Tensor<D>;
}
