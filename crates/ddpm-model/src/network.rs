//! What training and sampling ask of a network.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::{Condition, Masks, Mlp, UNet};

/// A network on `[B, …]` tensors of rank `D`.
pub trait Network<const D: usize>: Module + Sync + 'static {
    /// The output for `x_t` at times `t: [B]` (holding t − 1), shaped like `x_t` or with twice the
    /// channels. `masks` gives dropout masks, `None` in evaluation.
    fn predict(
        &self,
        x_t: Tensor<D>,
        t: Tensor<1>,
        condition: &Condition,
        masks: Option<&mut Masks>,
    ) -> Tensor<D>;
}

impl Network<4> for UNet {
    fn predict(
        &self,
        x_t: Tensor<4>,
        t: Tensor<1>,
        condition: &Condition,
        masks: Option<&mut Masks>,
    ) -> Tensor<4> {
        self.forward(x_t, t, condition.class.clone(), masks)
    }
}

impl Network<2> for Mlp {
    fn predict(
        &self,
        x_t: Tensor<2>,
        t: Tensor<1>,
        _condition: &Condition,
        _masks: Option<&mut Masks>,
    ) -> Tensor<2> {
        self.forward(x_t, t)
    }
}
