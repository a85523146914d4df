//! Tells runs from folders of diffusers, and suggests the right path for a wrong one.

use std::fs;
use std::path::{Path, PathBuf};

use ddpm_files::{FileError, io};
use ddpm_interop::diffusers::{self, DiffusersError, Pretrained};
use ddpm_model::UNetConfig;

use crate::config::Model;

/// The files that identify a folder of diffusers.
const SIGNS: [&str; 3] = ["model_index.json", "config.json", "unet/config.json"];

/// How many levels of subfolders are searched: a download cache has two.
const DEPTH: usize = 2;

/// Whether a path is a run's folder, or one of its checkpoints.
fn is_run(path: &Path) -> bool {
    path.join("checkpoints").is_dir()
        || ["config.toml", "state.json"]
            .iter()
            .any(|name| path.join(name).is_file())
}

/// Whether a path is a pipeline's folder, or a U-Net's.
fn is_of_diffusers(path: &Path) -> bool {
    SIGNS.iter().any(|name| path.join(name).is_file())
}

/// Whether to read a path as a folder of diffusers: true unless it is a run's folder or one of its
/// checkpoints.
pub fn is_diffusers(path: &Path) -> bool {
    is_of_diffusers(path) || !is_run(path)
}

/// Refuses a folder of diffusers, for operations that need a run.
///
/// # Errors
///
/// If `path` is a folder of diffusers.
pub fn refuse_diffusers(path: &Path) -> Result<(), FileError> {
    if !is_of_diffusers(path) {
        return Ok(());
    }
    let reason = "is a folder of diffusers; this needs a run or one of its checkpoints";
    Err(FileError::content(path, reason))
}

/// Reads the U-Net of a folder of diffusers; the error says what else the folder may be.
///
/// # Errors
///
/// As [`diffusers::unet`].
pub fn unet(path: &Path) -> Result<Pretrained, DiffusersError> {
    let mut files = ["unet/config.json", "config.json"].into_iter();
    if files.any(|name| path.join(name).exists()) {
        return diffusers::unet(path);
    }
    Err(wrong(path).into())
}

/// The network of diffusers as a run's `[model]` has it, in place of another. If it has one class
/// more than that one, which has a null class, so has this: classes of files do not say what they
/// mean.
pub fn model(pretrained: &UNetConfig, other: &Model) -> Model {
    let mut config = pretrained.clone();
    if let (Model::UNet(other), Some(rows)) = (other, config.num_classes)
        && other.null_class
        && other
            .num_classes
            .is_some_and(|n| n.checked_add(1) == Some(rows))
    {
        (config.num_classes, config.null_class) = (other.num_classes, true);
    }
    Model::UNet(config)
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Result<Vec<String>, FileError> {
    let entries = fs::read_dir(folder).map_err(io(folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io(folder))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// An error for a path without a U-Net's `config.json`, with a suggestion.
fn wrong(path: &Path) -> FileError {
    if path.is_file() {
        let around = path.ancestors().skip(1).take(DEPTH);
        let reason = match around.filter(|folder| is_of_diffusers(folder)).last() {
            Some(folder) => format!("is a file; give its folder, {}", shown(folder)),
            None => "is a file; give a folder, of a run or of diffusers".to_owned(),
        };
        return FileError::content(path, reason);
    }
    match names(path) {
        Ok(names) => FileError::content(path, missing(path, &names)),
        Err(error) => error,
    }
}

/// What a folder with these names is instead.
fn missing(folder: &Path, names: &[String]) -> String {
    let weights = |name: &&String| {
        let path = Path::new(name.as_str());
        let extension = path.extension().and_then(|extension| extension.to_str());
        ["safetensors", "bin", "ckpt", "pt", "pth"].contains(&extension.unwrap_or_default())
    };
    if is_run(folder) {
        let folder = shown(folder);
        return format!(
            "is a run, not a folder of diffusers; `ddpm export --from {folder} --to NEW --format \
             diffusers` converts it"
        );
    }
    if names.iter().any(|name| name == "model_index.json") {
        return "is a pipeline without unet/config.json; only pipelines whose network is a \
                UNet2DModel, in the folder unet, can be read"
            .to_owned();
    }
    if let Some(inner) = inner(folder, names, DEPTH) {
        let inner = shown(&inner);
        return format!("is neither a run nor a folder of diffusers, but {inner} is");
    }
    if let Some(name) = names.iter().find(weights) {
        return format!(
            "has {name}, but no config.json, which describes the network; copy it from the source \
             of the weights"
        );
    }
    "is neither a run, which has checkpoints, nor a folder of diffusers, which has \
     model_index.json, config.json or unet/config.json"
        .to_owned()
}

/// A run or a folder of diffusers in a folder with these names; the newest if there are several
/// checkpoints.
fn inner(folder: &Path, names: &[String], depth: usize) -> Option<PathBuf> {
    if depth == 0 {
        return None;
    }
    let mut folders = names.iter().rev().map(|name| folder.join(name));
    folders.find_map(|folder| {
        if is_run(&folder) || is_of_diffusers(&folder) {
            return Some(folder);
        }
        let names = folder.is_dir().then(|| self::names(&folder).ok())??;
        inner(&folder, &names, depth - 1)
    })
}

/// A path as a user can type it.
fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() {
        return ".".to_owned();
    }
    path.display().to_string()
}
