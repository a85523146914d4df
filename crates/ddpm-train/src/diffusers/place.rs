//! Which folder is whose, and what to give in place of a wrong one.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DiffusersError, content};
use crate::checkpoint::io;

/// The files by which a folder of diffusers is known.
const SIGNS: [&str; 3] = ["model_index.json", "config.json", "unet/config.json"];

/// How deep below a folder another one is looked for: a cache of downloads has two levels.
const DEPTH: usize = 2;

/// Whether a path is a run's folder, or one of its checkpoints.
pub(super) fn is_run(path: &Path) -> bool {
    path.join("checkpoints").is_dir()
        || ["config.toml", "state.json"]
            .iter()
            .any(|name| path.join(name).is_file())
}

/// Whether a path is a pipeline's folder, or a U-Net's.
pub(super) fn is_of_diffusers(path: &Path) -> bool {
    SIGNS.iter().any(|name| path.join(name).is_file())
}

/// The names in a folder, in order.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, DiffusersError> {
    let entries = fs::read_dir(folder).map_err(io(folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io(folder))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Why a path at which there is no U-Net's `config.json` cannot be read, and the way out.
pub(super) fn wrong(path: &Path) -> DiffusersError {
    if path.is_file() {
        let around = path.ancestors().skip(1).take(DEPTH);
        let reason = match around.filter(|folder| is_of_diffusers(folder)).last() {
            Some(folder) => format!("is a file; give its folder, {}", shown(folder)),
            None => "is a file; give a folder, of a run or of diffusers".to_owned(),
        };
        return content(path, reason);
    }
    match names(path) {
        Ok(names) => content(path, missing(path, &names)),
        Err(error) => error,
    }
}

/// What a folder of these names is instead.
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
             diffusers` makes one of it"
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
            "has {name}, but no config.json, which says what network the weights are of; copy it \
             from where they came from"
        );
    }
    "is neither a run, which has checkpoints, nor a folder of diffusers, which has \
     model_index.json, config.json or unet/config.json"
        .to_owned()
}

/// A run, or a folder of diffusers, in a folder of these names; of several checkpoints the newest.
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

/// A path as one can type it.
fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() {
        return ".".to_owned();
    }
    path.display().to_string()
}
