//! What the training loop and the sampler ask of a network.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ddpm_model::{Masks, Mlp, MlpConfig, ModelError, UNet, UNetConfig};

use crate::plan::NetworkPlan;

/// A network on `[B, …]` tensors of rank `D`.
pub trait Network<const D: usize>: Module + Sync + 'static {
    /// The output for `x_t` at times `t: [B]` (holding t − 1), shaped like `x_t` or with twice the
    /// channels.
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

/// A network of either kind.
pub enum AnyNetwork {
    /// For images.
    UNet(Box<UNet>),
    /// For points.
    Mlp(Box<Mlp>),
}

/// Why a network cannot be built for the data.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The configuration cannot be built, or not for images of this size.
    #[error("model: {0}")]
    Model(#[from] ModelError),
    /// A U-Net is given points, or an MLP images.
    #[error("model.kind does not fit rows of shape {0:?}")]
    Kind(Vec<usize>),
}

/// The network of a plan for rows of `shape`, its weights drawn from `seed`; with a second output
/// of the same shape if the variance is learned.
///
/// # Errors
///
/// If the plan's network does not fit rows of this shape.
pub fn build(
    plan: &NetworkPlan,
    learned_variance: bool,
    shape: &[usize],
    seed: u64,
    device: &Device,
) -> Result<AnyNetwork, NetworkError> {
    match (plan, shape) {
        (NetworkPlan::UNet(config), &[channels, height, width]) => {
            config.check_image_size(height, width)?;
            let config = unet(config, learned_variance, channels);
            Ok(AnyNetwork::UNet(Box::new(config.init(seed, device)?)))
        }
        (NetworkPlan::Mlp(config), &[features]) if features == config.features => {
            let config = MlpConfig {
                out_features: outputs(learned_variance) * features,
                ..config.clone()
            };
            Ok(AnyNetwork::Mlp(Box::new(config.init(seed, device)?)))
        }
        (_, shape) => Err(NetworkError::Kind(shape.to_vec())),
    }
}

/// The U-Net for images of so many channels.
pub fn unet(config: &UNetConfig, learned_variance: bool, channels: usize) -> UNetConfig {
    UNetConfig {
        in_channels: channels,
        out_channels: outputs(learned_variance) * channels,
        ..config.clone()
    }
}

/// Numbers predicted for each of a row's: a learned variance is a second one.
fn outputs(learned_variance: bool) -> usize {
    1 + usize::from(learned_variance)
}

/// Classes as a tensor.
#[allow(clippy::cast_possible_wrap)]
pub fn class_tensor(classes: &[usize], device: &Device) -> Tensor<1, Int> {
    let classes: Vec<i64> = classes.iter().map(|&class| class as i64).collect();
    let count = classes.len();
    Tensor::from_data(TensorData::new(classes, [count]), device)
}
