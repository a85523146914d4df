//! The networks that a configuration can ask for.

use burn::tensor::Device;
use ddpm_model::{Mlp, ModelError, UNet};

use crate::config::Model;

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

/// The network `model` for rows of `shape`, its weights drawn from `seed`. If the variance is learned,
/// it has a second output of the same shape.
///
/// # Errors
///
/// If the network does not fit rows of this shape.
pub fn build(
    model: &Model,
    learned_variance: bool,
    shape: &[usize],
    seed: u64,
    device: &Device,
) -> Result<AnyNetwork, NetworkError> {
    // A learned variance is a second number for each of a row's.
    let ends = |input: usize| [input, (1 + usize::from(learned_variance)) * input];
    match (model, shape) {
        (Model::UNet(config), &[channels, height, width]) => {
            config.check_image_size(height, width)?;
            let channels = ends(channels);
            Ok(AnyNetwork::UNet(Box::new(
                config.init(channels, seed, device)?,
            )))
        }
        (Model::Mlp(config), &[features]) => {
            let features = ends(features);
            Ok(AnyNetwork::Mlp(Box::new(
                config.init(features, seed, device)?,
            )))
        }
        (_, shape) => Err(NetworkError::Kind(shape.to_vec())),
    }
}
