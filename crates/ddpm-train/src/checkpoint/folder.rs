//! The checkpoints of a run: which there are, and which is the newest whole one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ddpm_files::{FileError, io};

use super::manifest::Manifest;

/// A directory that should be a checkpoint.
#[derive(Debug)]
pub struct Found {
    /// The step in its name.
    pub step: u64,
    /// The directory.
    pub path: PathBuf,
    /// Its manifest if it is whole, and otherwise what is wrong.
    pub manifest: Result<Manifest, FileError>,
}

/// The names in a run's `checkpoints`, hidden ones too.
fn names(run: &Path) -> Result<Vec<(PathBuf, String)>, FileError> {
    let folder = run.join("checkpoints");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(io(&folder))? {
        let entry = entry.map_err(io(&folder))?;
        names.push((entry.path(), entry.file_name().to_string_lossy().into()));
    }
    names.sort();
    Ok(names)
}

/// The steps of a run's checkpoints and their directories, whole or not.
pub(super) fn steps(run: &Path) -> Result<BTreeMap<u64, PathBuf>, FileError> {
    let step = |name: &str| {
        let step = name.strip_prefix("step-")?.parse().ok()?;
        (name == self::name(step)).then_some(step)
    };
    let names = names(run)?.into_iter();
    Ok(names
        .filter_map(|(path, name)| Some((step(&name)?, path)))
        .collect())
}

/// Whether a run has any checkpoint, whole or not.
pub fn exists(run: &Path) -> bool {
    steps(run).is_ok_and(|steps| !steps.is_empty())
}

/// What a process that died left of the checkpoint it was writing, or removing.
///
/// # Errors
///
/// If the folder of checkpoints cannot be read.
pub fn unfinished(run: &Path) -> Result<Vec<PathBuf>, FileError> {
    let left = |name: &str| {
        let rest = name.strip_prefix(".step-");
        rest.is_some_and(|rest| rest.strip_suffix(".tmp").is_some())
    };
    let names = names(run)?.into_iter();
    Ok(names
        .filter_map(|(path, name)| left(&name).then_some(path))
        .collect())
}

/// Verifies all checkpoints of a run, oldest first.
///
/// # Errors
///
/// If the folder of checkpoints cannot be read.
pub fn survey(run: &Path) -> Result<Vec<Found>, FileError> {
    let steps = steps(run)?.into_iter();
    Ok(steps
        .map(|(step, path)| Found {
            step,
            manifest: Manifest::verify(&path),
            path,
        })
        .collect())
}

/// The newest whole checkpoint of a run, and why newer ones are not whole; `None` if no
/// checkpoint was ever made.
///
/// # Errors
///
/// If the folder of checkpoints cannot be read, or holds checkpoints and not one is whole.
pub fn newest_whole(run: &Path) -> Result<(Option<PathBuf>, Vec<FileError>), FileError> {
    let mut skipped = Vec::new();
    for (_, path) in steps(run)?.into_iter().rev() {
        match Manifest::verify(&path) {
            Ok(_) => return Ok((Some(path), skipped)),
            Err(error) => skipped.push(error),
        }
    }
    if skipped.is_empty() {
        return Ok((None, skipped));
    }
    let reasons: Vec<_> = skipped.iter().map(ToString::to_string).collect();
    let reason = format!("holds no whole checkpoint: {}", reasons.join("; "));
    Err(FileError::content(&run.join("checkpoints"), reason))
}

/// The newest whole checkpoint of a run, or `run` itself if it is a checkpoint; and why newer ones
/// are not whole.
///
/// # Errors
///
/// If there is none.
pub fn newest(run: &Path) -> Result<(PathBuf, Vec<FileError>), FileError> {
    if run.join("state.json").is_file() {
        Manifest::verify(run)?;
        return Ok((run.to_owned(), Vec::new()));
    }
    let (found, skipped) = newest_whole(run)?;
    let nothing = || FileError::content(&run.join("checkpoints"), "holds no checkpoint");
    Ok((found.ok_or_else(nothing)?, skipped))
}

/// The name of a step's directory.
pub(super) fn name(step: u64) -> String {
    format!("step-{step:08}")
}
