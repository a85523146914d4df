//! `[model]`: the network.

use ddpm_model::{MlpConfig, ModelError, UNetConfig};
use serde::{Deserialize, Serialize};

/// `[model]`. The data says how many channels or numbers a row has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Model {
    /// The U-Net, for images.
    #[serde(rename = "unet")]
    UNet(UNetConfig),
    /// The multilayer perceptron, for points.
    Mlp(MlpConfig),
}

impl Model {
    /// Checks that the network can be built.
    ///
    /// # Errors
    ///
    /// As [`UNetConfig::check`] and [`MlpConfig::check`].
    pub fn check(&self) -> Result<(), ModelError> {
        match self {
            Self::UNet(unet) => unet.check(),
            Self::Mlp(mlp) => mlp.check(),
        }
    }
}
