//! The network of a folder of diffusers.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ddpm_model::weights::{Weights, load};
use ddpm_model::{ModelError, UNet, UNetConfig};

use super::error::{DiffusersError, content};
use super::json::Keys;
use super::{config, files};

/// The network of a diffusers folder.
pub struct Pretrained {
    /// Its shape.
    pub config: UNetConfig,
    /// Channels of its input and output.
    pub channels: [usize; 2],
    /// Height and width of its images, if the file contains them (`sample_size`).
    pub sample_size: Option<[usize; 2]>,
    /// The file of the configuration.
    pub file: PathBuf,
    /// The ignored keys and the reason, in one sentence that names the file.
    pub note: Option<String>,
    weights: Weights,
}

/// Reads the U-Net of a pipeline's folder, nested or flat, or the folder of a U-Net alone.
///
/// # Errors
///
/// If `path` is no such folder, a file is missing or damaged, or `config.json` has an unknown key
/// or an unsupported value. [`Pretrained::build`] checks whether the weights fit the network.
pub fn unet(path: &Path) -> Result<Pretrained, DiffusersError> {
    let folders = [path.join("unet"), path.to_owned()];
    let found = folders.map(|folder| (folder.join("config.json"), folder));
    let mut found = found.into_iter().filter(|(file, _)| file.exists());
    let (file, folder) = found
        .next()
        .ok_or_else(|| content(path, "holds neither unet/config.json nor config.json"))?;
    let found = config::read(Keys::read(&file)?)?;
    Ok(Pretrained {
        config: found.config,
        channels: found.channels,
        sample_size: found.sample_size,
        note: found.note,
        weights: files::weights(&folder)?,
        file,
    })
}

impl Pretrained {
    /// The tensors of the files by their current names in diffusers: their shapes, and their values
    /// with the last index fastest. [`build`](Self::build) checks whether they fit the network.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], Vec<f32>)> {
        let weights = self.weights.shapes();
        weights.map(|(name, shape)| {
            let values = self.weights.values(name).unwrap_or_default();
            (name, shape, values)
        })
    }

    /// Whether the network has a second output per value of a row, for its variance.
    pub fn learned_variance(&self) -> bool {
        self.channels[1] == 2 * self.channels[0]
    }

    /// Checks that the network takes rows of this shape, `[C, H, W]`, and predicts one number per
    /// value of a row, or two if it also predicts the variance.
    ///
    /// # Errors
    ///
    /// If its channels differ, or the image cannot be halved as often as the network requires.
    pub fn check(&self, row: &[usize]) -> Result<(), DiffusersError> {
        let [input, output] = self.channels;
        let refusal = |key: &str, value: usize, reason: String| DiffusersError::Value {
            path: self.file.clone(),
            key: key.to_owned(),
            value: value.to_string(),
            reason,
        };
        let &[channels, height, width] = row else {
            let reason = format!("a network for images; rows have the shape {row:?}");
            return Err(refusal("in_channels", input, reason));
        };
        if input != channels {
            let reason = format!("images have {channels}");
            return Err(refusal("in_channels", input, reason));
        }
        if output != channels && !self.learned_variance() {
            let reason = format!(
                "a prediction needs {channels}, or {} with a variance",
                2 * channels
            );
            return Err(refusal("out_channels", output, reason));
        }
        let size = self.config.check_image_size(height, width);
        size.map_err(|error| self.network(error))
    }

    fn network(&self, error: ModelError) -> DiffusersError {
        DiffusersError::Network {
            path: self.file.clone(),
            error,
        }
    }

    /// The network with its weights.
    ///
    /// # Errors
    ///
    /// If the weights do not fit the network, or one of them is not finite.
    pub fn build(&self, device: &Device) -> Result<UNet, DiffusersError> {
        // Every block has more than one tensor. This check limits the memory of building the
        // blocks.
        let (blocks, tensors) = (self.config.residual_blocks(), self.weights.len());
        if blocks > tensors {
            let reason = format!("describes {blocks} residual blocks; there are {tensors} tensors");
            return Err(content(&self.file, reason));
        }
        let network = self.config.init(self.channels, 0, device);
        let network = network.map_err(|error| self.network(error))?;
        Ok(load(network, &self.weights)?)
    }
}
