//! What a checkpoint holds, as its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use ddpm_files::{FileError, io, write_folder};
use ddpm_model::weights::{load_module, module_bytes, not_finite};
use serde::{Deserialize, Serialize};

use super::folder;
use super::manifest::{self, Manifest, PARTS};
use super::tensors::{load_losses, load_optim, losses_bytes, optim_bytes};
use crate::optim::Optim;
use crate::params::{self, Named};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    step: u64,
    updates: u64,
    shape: Vec<usize>,
    data: String,
    /// Absent in older checkpoints.
    #[serde(default)]
    class_names: Vec<String>,
    /// Likewise.
    #[serde(default)]
    settings: BTreeMap<String, String>,
}

/// Everything a run needs to go on.
#[derive(Clone)]
pub struct Snapshot<M> {
    /// Steps done.
    pub step: u64,
    /// Shape of a row of the data.
    pub shape: Vec<usize>,
    /// What [`Dataset::fingerprint`](ddpm_data::Dataset::fingerprint) gives for the data.
    pub data: String,
    /// Names of the classes of the data, by number; empty if it has none.
    pub class_names: Vec<String>,
    /// What identifies the run ([`Settings::identity`](crate::Settings::identity)).
    pub settings: BTreeMap<String, String>,
    /// The weights being trained.
    pub model: M,
    /// The averaged weights.
    pub ema: M,
    /// The optimizer and its moments.
    pub optim: Optim,
    /// The last losses of t = 1, 2, …, T, where times are drawn by them; otherwise empty.
    pub losses: Vec<Vec<f64>>,
}

/// A snapshot as the bytes of its files, apart from the tensors it was made of: these can be
/// trained on while it is written.
pub struct Encoded {
    pub(super) step: u64,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Encoded {
    /// Copies a snapshot to the host.
    ///
    /// # Errors
    ///
    /// If a tensor cannot be read from its device.
    pub fn new<M: Module>(snapshot: &Snapshot<M>, config: &str) -> Result<Self, FileError> {
        let state = State {
            step: snapshot.step,
            updates: snapshot.optim.updates,
            shape: snapshot.shape.clone(),
            data: snapshot.data.clone(),
            class_names: snapshot.class_names.clone(),
            settings: snapshot.settings.clone(),
        };
        let contents = [
            Ok(config.as_bytes().to_vec()),
            module_bytes(&snapshot.ema),
            losses_bytes(&snapshot.losses),
            module_bytes(&snapshot.model),
            optim_bytes(&snapshot.optim),
            serde_json::to_vec_pretty(&state).map_err(|e| e.to_string()),
        ];
        let files = PARTS.into_iter().zip(contents);
        let files = files.map(|(name, bytes)| match bytes {
            Ok(bytes) => Ok((name, bytes)),
            Err(reason) => Err(FileError::content(Path::new(name), reason)),
        });
        Ok(Self {
            step: snapshot.step,
            files: files.collect::<Result<_, _>>()?,
        })
    }

    /// Writes the directory `folder/step-NNNNNNNN`; returns its path and its length in bytes.
    ///
    /// # Errors
    ///
    /// If the system refuses, `folder` does not exist, or a weight is not finite; earlier
    /// checkpoints are then untouched.
    pub fn write(self, folder: &Path) -> Result<(PathBuf, u64), FileError> {
        let target = folder.join(folder::name(self.step));
        for (name, bytes) in &self.files {
            if ["ema.safetensors", "model.safetensors"].contains(name) {
                let path = target.join(name);
                match not_finite(bytes) {
                    Ok(None) => {}
                    Ok(Some(name)) => {
                        let reason = format!("{name} is not finite; not saved");
                        return Err(FileError::content(&path, reason));
                    }
                    Err(reason) => return Err(FileError::content(&path, reason)),
                }
            }
        }
        // Of what vanished the folder is named, not a file that was to be in it.
        fs::metadata(folder).map_err(io(folder))?;
        let manifest = Manifest::of(&self.files);
        let mut files = self.files;
        files.push((manifest::NAME, manifest.to_json()?));
        write_folder(&target, &files)?;
        Ok((target, manifest.bytes()))
    }
}

/// Saves a snapshot as `folder/step-NNNNNNNN`; returns that path.
///
/// # Errors
///
/// As [`Encoded::new`] and [`Encoded::write`].
pub fn save<M: Module>(
    folder: &Path,
    snapshot: &Snapshot<M>,
    config: &str,
) -> Result<PathBuf, FileError> {
    let (path, _) = Encoded::new(snapshot, config)?.write(folder)?;
    Ok(path)
}

/// Loads a checkpoint into networks of the right shape.
///
/// # Errors
///
/// If a file is missing or damaged, or a tensor is missing, unexpected or of the wrong shape.
pub fn load<M: Module>(
    path: &Path,
    model: M,
    optim: Optim,
    device: &Device,
) -> Result<Snapshot<M>, FileError> {
    let state = read_state(path)?;
    let ema = load_module(&path.join("ema.safetensors"), model.valid())?;
    let model = load_module(&path.join("model.safetensors"), model)?;
    let losses = load_losses(&path.join("losses.safetensors"))?;
    let path = path.join("optimizer.safetensors");
    let optim = load_optim(&path, optim, state.updates, device)?;
    let lengths = |named: &Named| -> Vec<(String, usize)> {
        named
            .iter()
            .map(|(name, t)| (name.clone(), t.dims()[0]))
            .collect()
    };
    let parameters = lengths(&params::values(&model));
    let fits = [&optim.exp_avg, &optim.exp_avg_sq]
        .iter()
        .all(|m| lengths(m) == parameters);
    if optim.updates > 0 && !fits {
        let reason = "the moments are not those of the network's parameters";
        return Err(FileError::content(&path, reason));
    }
    Ok(Snapshot {
        step: state.step,
        shape: state.shape,
        data: state.data,
        class_names: state.class_names,
        settings: state.settings,
        model,
        ema,
        optim,
        losses,
    })
}

fn read_state(checkpoint: &Path) -> Result<State, FileError> {
    let path = checkpoint.join("state.json");
    let state = fs::read(&path).map_err(io(&path))?;
    serde_json::from_slice(&state).map_err(|e| FileError::content(&path, e))
}

/// The shape of the rows a checkpoint's network was trained on: `[C, H, W]`, or `[2]` for points.
///
/// # Errors
///
/// If its `state.json` is missing or damaged.
pub fn row_shape(checkpoint: &Path) -> Result<Vec<usize>, FileError> {
    Ok(read_state(checkpoint)?.shape)
}

/// The names of the classes a checkpoint's network was trained on, by number; empty if they are not
/// known.
///
/// # Errors
///
/// If its `state.json` is missing or damaged.
pub fn class_names(checkpoint: &Path) -> Result<Vec<String>, FileError> {
    Ok(read_state(checkpoint)?.class_names)
}
