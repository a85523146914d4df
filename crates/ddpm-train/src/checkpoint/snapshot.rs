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
use super::manifest::{self, Manifest, average_file};
use super::tensors::{load_losses, load_optimizer, losses_bytes, optimizer_bytes};
use crate::optim::{Optimizer, OptimizerState, Scalar};
use crate::params;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    step: u64,
    /// In older checkpoints, where it is the step.
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "a field that may be there")]
    updates: Option<u64>,
    shape: Vec<usize>,
    data: String,
    /// Absent in older checkpoints.
    #[serde(default)]
    class_names: Vec<String>,
    /// Likewise.
    #[serde(default)]
    settings: BTreeMap<String, String>,
    /// The numbers of the optimizer's state.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    optimizer: BTreeMap<String, Scalar>,
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
    /// What identifies the run: [`Settings::identity`](crate::Settings::identity), and the names of the
    /// frozen parameters as `frozen`.
    pub settings: BTreeMap<String, String>,
    /// The weights being trained.
    pub model: M,
    /// The averaged weights with their decays; there is at least one.
    pub averages: Vec<(f64, M)>,
    /// The optimizer and its state.
    pub optimizer: Box<dyn Optimizer>,
    /// The last losses of t = 1, 2, …, T, where times are drawn by them; otherwise empty.
    pub losses: Vec<Vec<f64>>,
}

/// A snapshot as the bytes of its files, apart from the tensors it was made of: these can be
/// trained on while it is written.
pub struct Encoded {
    pub(super) step: u64,
    files: Vec<(String, Vec<u8>)>,
}

impl Encoded {
    /// Copies a snapshot to the host.
    ///
    /// # Errors
    ///
    /// If a tensor cannot be read from its device.
    pub fn new<M: Module>(snapshot: &Snapshot<M>, config: &str) -> Result<Self, FileError> {
        let optimizer = snapshot.optimizer.state();
        let OptimizerState { tensors, scalars } = optimizer
            .map_err(|reason| FileError::content(Path::new("optimizer.safetensors"), reason))?;
        let state = State {
            step: snapshot.step,
            updates: None,
            shape: snapshot.shape.clone(),
            data: snapshot.data.clone(),
            class_names: snapshot.class_names.clone(),
            settings: snapshot.settings.clone(),
            optimizer: scalars,
        };
        let mut contents = vec![
            ("config.toml".to_owned(), Ok(config.as_bytes().to_vec())),
            (
                "losses.safetensors".to_owned(),
                losses_bytes(&snapshot.losses),
            ),
            (
                "model.safetensors".to_owned(),
                module_bytes(&snapshot.model),
            ),
            (
                "optimizer.safetensors".to_owned(),
                optimizer_bytes(&tensors),
            ),
            (
                "state.json".to_owned(),
                serde_json::to_vec_pretty(&state).map_err(|e| e.to_string()),
            ),
        ];
        let averages = snapshot.averages.iter().enumerate();
        contents.extend(
            averages.map(|(i, (decay, average))| (average_name(i, *decay), module_bytes(average))),
        );
        let files = contents.into_iter().map(|(name, bytes)| match bytes {
            Ok(bytes) => Ok((name, bytes)),
            Err(reason) => Err(FileError::content(Path::new(&name), reason)),
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
            if name.starts_with("ema") || name == "model.safetensors" {
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
        // Names the missing folder rather than a file inside it.
        fs::metadata(folder).map_err(io(folder))?;
        let manifest = Manifest::of(&self.files);
        let (names, contents): (Vec<_>, Vec<_>) = self.files.into_iter().unzip();
        let mut files: Vec<_> = names.iter().map(String::as_str).zip(contents).collect();
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

/// The file of the average of a decay, the `i`-th of a run.
fn average_name(i: usize, decay: f64) -> String {
    match i {
        0 => "ema.safetensors".to_owned(),
        _ => average_file(decay),
    }
}

/// Loads a checkpoint into networks of the right shape, with an optimizer that has seen nothing and the
/// decays of the averages.
///
/// # Errors
///
/// If a file is missing or damaged, a tensor is missing, unexpected or of the wrong shape, or the state
/// of the optimizer is not one of this optimizer for the trained parameters of `model`.
pub fn load<M: Module>(
    path: &Path,
    model: M,
    mut optimizer: Box<dyn Optimizer>,
    decays: &[f64],
    device: &Device,
) -> Result<Snapshot<M>, FileError> {
    let state = read_state(path)?;
    let averages = decays.iter().enumerate().map(|(i, &decay)| {
        let path = path.join(average_name(i, decay));
        Ok((decay, load_module(&path, model.valid())?))
    });
    let averages = averages.collect::<Result<_, FileError>>()?;
    let model = load_module(&path.join("model.safetensors"), model)?;
    let losses = load_losses(&path.join("losses.safetensors"))?;
    let path = path.join("optimizer.safetensors");
    let gathered = OptimizerState {
        tensors: load_optimizer(&path)?,
        scalars: state.optimizer,
    };
    let restored = optimizer.restore(gathered, &params::trained(&model), device);
    restored.map_err(|reason| FileError::content(&path, reason))?;
    Ok(Snapshot {
        step: state.step,
        shape: state.shape,
        data: state.data,
        class_names: state.class_names,
        settings: state.settings,
        model,
        averages,
        optimizer,
        losses,
    })
}

/// What tells a checkpoint's run from others: the fingerprint of its data, and its settings as
/// [`Snapshot::settings`] has them, which are empty in older checkpoints.
///
/// # Errors
///
/// If its `state.json` is missing or damaged.
pub fn identity(checkpoint: &Path) -> Result<(String, BTreeMap<String, String>), FileError> {
    let state = read_state(checkpoint)?;
    Ok((state.data, state.settings))
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
