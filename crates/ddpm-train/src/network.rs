//! What the training loop and the sampler ask of a network.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ddpm_model::{Masks, Mlp, UNet};

/// A network on `[B, …]` tensors of rank `D`.
pub trait Network<const D: usize>: Module + Sync + 'static {
    /// The output for `x_t` at times `t: [B]` (holding t − 1), shaped like `x_t`.
    ///
    /// `class` is one class a row, for conditional networks; `masks` gives dropout masks, `None`
    /// in evaluation.
    fn predict(
        &self,
        x_t: Tensor<D>,
        t: Tensor<1>,
        class: Option<Tensor<1, Int>>,
        masks: Option<&mut Masks>,
    ) -> Tensor<D>;
}

impl Network<4> for UNet {
    fn predict(
        &self,
        x_t: Tensor<4>,
        t: Tensor<1>,
        class: Option<Tensor<1, Int>>,
        masks: Option<&mut Masks>,
    ) -> Tensor<4> {
        self.forward(x_t, t, class, masks)
    }
}

impl Network<2> for Mlp {
    /// An MLP knows neither classes nor dropout; the configuration refuses both.
    fn predict(
        &self,
        x_t: Tensor<2>,
        t: Tensor<1>,
        _class: Option<Tensor<1, Int>>,
        _masks: Option<&mut Masks>,
    ) -> Tensor<2> {
        self.forward(x_t, t)
    }
}

/// Classes as a tensor.
#[allow(clippy::cast_possible_wrap)]
pub fn class_tensor(classes: &[usize], device: &Device) -> Tensor<1, Int> {
    let classes: Vec<i64> = classes.iter().map(|&class| class as i64).collect();
    let count = classes.len();
    Tensor::from_data(TensorData::new(classes, [count]), device)
}
