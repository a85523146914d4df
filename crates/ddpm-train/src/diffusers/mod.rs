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
mod place;
mod safetensors;
pub mod scheduler;
mod tensors;
mod zip;

use std::path::{Path, PathBuf};

use burn::module::Module;
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
}

/// A file or folder that is not what it should be.
fn content(path: &Path, reason: impl std::fmt::Display) -> DiffusersError {
    CheckpointError::content(path, reason).into()
}

/// Lines below a message: the first ten, and how many more there are.
struct Lines(Vec<String>);

impl std::fmt::Display for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MOST: usize = 10;
        for line in self.0.iter().take(MOST) {
            write!(f, "\n  {line}")?;
        }
        match self.0.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
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
    /// Which of its keys were ignored and why, in one sentence that names the file.
    pub note: Option<String>,
    weights: files::Weights,
}

/// A module with the weights of one file in PyTorch's layout.
///
/// # Errors
///
/// If the file is missing or damaged, a tensor is missing, unexpected or of another shape, or a value
/// is not finite.
pub(crate) fn load_file<M: Module>(path: &Path, module: M) -> Result<M, CheckpointError> {
    load::load(module, &files::single(path.to_owned())?)
}

/// Whether a path is to be read as a folder of diffusers: unless it is a run's folder, or one of its
/// checkpoints.
pub fn is_folder(path: &Path) -> bool {
    place::is_of_diffusers(path) || !place::is_run(path)
}

/// Refuses a folder of diffusers, for what can be done with a run alone.
///
/// # Errors
///
/// If `path` is one.
pub fn refuse(path: &Path) -> Result<(), CheckpointError> {
    if !place::is_of_diffusers(path) {
        return Ok(());
    }
    let reason = "is a folder of diffusers; a run is needed here, or one of its checkpoints";
    Err(CheckpointError::content(path, reason))
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
    let (file, folder) = found.next().ok_or_else(|| place::wrong(path))?;
    let found = config::read(json::Keys::read(&file)?)?;
    Ok(Pretrained {
        config: found.config,
        sample_size: found.sample_size,
        note: found.note,
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
    let file = scheduler_file(folder);
    if !file.exists() {
        let reason = "holds neither scheduler/scheduler_config.json nor scheduler_config.json; copy \
                      the folder scheduler of the network's pipeline into it";
        return Err(content(folder, reason));
    }
    Scheduler::of(json::Keys::read(&file)?)
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
/// has the same levels and predicts the same. Returns [`Scheduler::note`].
///
/// # Errors
///
/// If the scheduler differs, with both values, or is refused as by [`Scheduler::parse`].
pub fn check_objective(
    folder: &Path,
    objective: &Objective,
) -> Result<Option<String>, DiffusersError> {
    let file = scheduler_file(folder);
    if !file.is_file() {
        return Ok(None);
    }
    let found = scheduler(folder)?;
    scheduler::difference(&found.objective, objective).map_or(
        Ok(found.note),
        |(key, value, reason)| {
            Err(DiffusersError::Value {
                path: file,
                key: key.to_owned(),
                value,
                reason,
            })
        },
    )
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
        Ok(load::load(network, &self.weights)?)
    }
}
