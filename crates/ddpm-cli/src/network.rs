//! The networks that a configuration can ask for.

use burn::tensor::Device;
use ddpm_model::{Mlp, MlpConfig, ModelError, UNet, UNetConfig};

use crate::plan::NetworkPlan;

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
