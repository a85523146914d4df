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
    /// Height and width of its images, if the file says (`sample_size`).
    pub sample_size: Option<[usize; 2]>,
    /// The file of the configuration.
    pub file: PathBuf,
    /// Which of its keys were ignored and why, in one sentence that names the file.
    pub note: Option<String>,
    weights: Weights,
}

/// Reads the U-Net of a pipeline's folder, nested or flat, or the folder of a U-Net alone.
///
/// # Errors
///
/// If `path` is no such folder; if a file is missing or damaged; if `config.json` has an unknown key,
/// or a value that is not supported. Whether the weights are the network's is seen by
/// [`Pretrained::build`].
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
        sample_size: found.sample_size,
        note: found.note,
        weights: files::weights(&folder)?,
        file,
    })
}

impl Pretrained {
    /// The tensors of the files by the names diffusers gives them now: their shapes, and their values
    /// with the last index fastest. Whether they are the network's is seen by [`build`](Self::build).
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], Vec<f32>)> {
        let weights = self.weights.shapes();
        weights.map(|(name, shape)| {
            let values = self.weights.values(name).unwrap_or_default();
            (name, shape, values)
        })
    }

    /// Whether the network has a second output for each number of a row, of its variance.
    pub fn learned_variance(&self) -> bool {
        self.config.out_channels == 2 * self.config.in_channels
    }

    /// Whether the network is one for rows of this shape, `[C, H, W]`, that predicts one number for
    /// each of a row's, or two where it chooses the variance.
    ///
    /// # Errors
    ///
    /// If its channels differ, or the image cannot be halved as often as it halves it.
    pub fn check(&self, row: &[usize]) -> Result<(), DiffusersError> {
        let config = &self.config;
        let refusal = |key: &str, value: usize, reason: String| DiffusersError::Value {
            path: self.file.clone(),
            key: key.to_owned(),
            value: value.to_string(),
            reason,
        };
        let &[channels, height, width] = row else {
            let reason = format!("a network for images; rows have the shape {row:?}");
            return Err(refusal("in_channels", config.in_channels, reason));
        };
        if config.in_channels != channels {
            let reason = format!("images have {channels}");
            return Err(refusal("in_channels", config.in_channels, reason));
        }
        if config.out_channels != channels && !self.learned_variance() {
            let reason = format!(
                "a prediction has {channels}, with a variance {}",
                2 * channels
            );
            return Err(refusal("out_channels", config.out_channels, reason));
        }
        let size = config.check_image_size(height, width);
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
    /// If the weights are not the network's, or one of them is not finite.
    pub fn build(&self, device: &Device) -> Result<UNet, DiffusersError> {
        // Every block has more than one tensor. Building it takes memory, if none for its weights.
        let (blocks, tensors) = (self.config.residual_blocks(), self.weights.len());
        if blocks > tensors {
            let reason = format!("describes {blocks} residual blocks; there are {tensors} tensors");
            return Err(content(&self.file, reason));
        }
        let network = self.config.init(0, device);
        let network = network.map_err(|error| self.network(error))?;
        Ok(load(network, &self.weights)?)
    }
}
