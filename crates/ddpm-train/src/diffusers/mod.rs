//! Folders of the Python library diffusers: what is trained there loads here, and the reverse.
//!
//! A pipeline's folder is nested (`unet/`, `scheduler/`) or flat. [`unet`] reads the network's
//! part of it, [`export`] writes one. A file is a stranger's: it is read to its end and no further,
//! costs memory in proportion to its length, and what it asks for beyond a U-Net of DDPM is refused
//! by name.

mod config;
mod export;
mod files;
mod json;
mod load;
mod pickle;
mod safetensors;
pub mod scheduler;
mod tensors;
mod zip;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ddpm_model::{ModelError, UNet, UNetConfig};
use ddpm_schedule::Objective;

use crate::checkpoint::CheckpointError;
use crate::config::Model;
use scheduler::Scheduler;

pub use export::{ExportError, export, write};

/// The release whose files were compared with ours; exported folders name it.
const VERSION: &str = "0.42.1";

/// Why a folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DiffusersError {
    /// A file or folder cannot be read or written, or is not what it should be.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// A configuration has keys that nothing here reads.
    #[error("{}: unknown keys: {}", path.display(), keys.join(", "))]
    Unknown {
        /// The file.
        path: PathBuf,
        /// All of these keys.
        keys: Vec<String>,
    },
    /// A configuration has a value that is wrong, or that is not supported.
    #[error("{}: {key} = {value}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value, as JSON.
        value: String,
        /// What is wrong, or what is supported.
        reason: String,
    },
    /// A configuration describes a network that cannot be built.
    #[error("{}: {error}", path.display())]
    Network {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: ModelError,
    },
    /// Weights are not those of the network.
    #[error("{}: {misfits}", path.display())]
    Weights {
        /// The file of the weights, or their index.
        path: PathBuf,
        /// Every tensor that does not fit.
        misfits: Misfits,
    },
}

/// A file or folder that is not what it should be.
fn content(path: &Path, reason: impl std::fmt::Display) -> DiffusersError {
    CheckpointError::content(path, reason).into()
}

/// Every tensor of a file that does not fit a network, and of a network that is not in the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Misfits {
    /// The network's, with their shapes.
    pub missing: Vec<(String, Vec<usize>)>,
    /// The file's, with theirs.
    pub unexpected: Vec<(String, Vec<usize>)>,
    /// Those in both: the network's shape, then the file's.
    pub mis_shaped: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl std::fmt::Display for Misfits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("these are not the network's weights")?;
        for (name, shape) in &self.missing {
            write!(f, "\n  missing {name} {shape:?}")?;
        }
        for (name, shape) in &self.unexpected {
            write!(f, "\n  unexpected {name} {shape:?}")?;
        }
        for (name, expected, found) in &self.mis_shaped {
            write!(f, "\n  mis-shaped {name} {found:?}, not {expected:?}")?;
        }
        Ok(())
    }
}

/// The network of a diffusers folder.
pub struct Pretrained {
    /// Its shape.
    pub config: UNetConfig,
    /// Height and width of its images, if the file says (`sample_size`).
    pub sample_size: Option<[usize; 2]>,
    /// The file of the configuration.
    pub file: PathBuf,
    weights: files::Weights,
}

/// Whether a folder is one of diffusers', as opposed to a run's.
pub fn is_folder(path: &Path) -> bool {
    ["model_index.json", "config.json", "unet/config.json"]
        .iter()
        .any(|name| path.join(name).is_file())
}

/// Reads the U-Net of a pipeline's folder, nested or flat, or the folder of a U-Net alone.
///
/// # Errors
///
/// If a file is missing or damaged, `config.json` has an unknown key, or a value that is not
/// supported. Whether the weights are the network's is seen by [`Pretrained::build`].
pub fn unet(folder: &Path) -> Result<Pretrained, DiffusersError> {
    let nested = folder.join("unet");
    let folder = if nested.join("config.json").is_file() {
        nested
    } else {
        folder.to_owned()
    };
    let file = folder.join("config.json");
    let (config, sample_size) = config::read(json::Keys::read(&file)?)?;
    Ok(Pretrained {
        config,
        sample_size,
        weights: files::weights(&folder)?,
        file,
    })
}

/// Reads the scheduler of a pipeline's folder, nested or flat.
///
/// # Errors
///
/// If the file is missing, or refused as by [`Scheduler::parse`].
pub fn scheduler(folder: &Path) -> Result<Scheduler, DiffusersError> {
    Scheduler::of(json::Keys::read(&scheduler_file(folder))?)
}

fn scheduler_file(folder: &Path) -> PathBuf {
    let name = "scheduler_config.json";
    let nested = folder.join("scheduler").join(name);
    if nested.is_file() {
        nested
    } else {
        folder.join(name)
    }
}

/// Whether a folder's network can be trained on with this objective: its scheduler, if it has one,
/// has the same levels and predicts the same.
///
/// # Errors
///
/// If the scheduler differs, with both values, or is refused as by [`Scheduler::parse`].
pub fn check_objective(folder: &Path, objective: &Objective) -> Result<(), DiffusersError> {
    let file = scheduler_file(folder);
    if !file.is_file() {
        return Ok(());
    }
    let found = scheduler(folder)?.objective;
    scheduler::difference(&found, objective).map_or(Ok(()), |(key, value, reason)| {
        Err(DiffusersError::Value {
            path: file,
            key: key.to_owned(),
            value,
            reason,
        })
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

    /// The network as a run's `[model]` has it, in place of another. If it has one class more than
    /// that one, which has a null class, so has this: classes of files do not say what they mean.
    pub fn model(&self, other: &Model) -> Model {
        let mut config = self.config.clone();
        if let (Model::UNet(other), Some(rows)) = (other, config.num_classes)
            && other.null_class
            && other
                .num_classes
                .is_some_and(|n| n.checked_add(1) == Some(rows))
        {
            (config.num_classes, config.null_class) = (other.num_classes, true);
        }
        Model::UNet(config.into())
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
    /// If the weights are not the network's; every tensor that does not fit is named.
    pub fn build(&self, device: &Device) -> Result<UNet, DiffusersError> {
        // Every block has more than one tensor. Building it takes memory, if none for its weights.
        let (blocks, tensors) = (self.config.residual_blocks(), self.weights.len());
        if blocks > tensors {
            let reason = format!("describes {blocks} residual blocks; there are {tensors} tensors");
            return Err(content(&self.file, reason));
        }
        let network = self.config.init(0, device);
        let network = network.map_err(|error| self.network(error))?;
        load::load(network, &self.weights)
    }
}
