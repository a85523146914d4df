//! The scheduler of a folder of diffusers.

use std::path::{Path, PathBuf};

use ddpm_schedule::Objective;

use super::error::{DiffusersError, content};
use super::json::Keys;
use super::scheduler::{Scheduler, difference};

/// Reads the scheduler of a pipeline's folder, nested or flat.
///
/// # Errors
///
/// If the file is missing, or [`Scheduler::parse`] refuses it.
pub fn scheduler(folder: &Path) -> Result<Scheduler, DiffusersError> {
    let file = scheduler_file(folder);
    if !file.exists() {
        let reason = "holds neither scheduler/scheduler_config.json nor scheduler_config.json; copy \
                      the folder scheduler of the network's pipeline into it";
        return Err(content(folder, reason));
    }
    Scheduler::of(Keys::read(&file)?)
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

/// Checks whether a folder's network can be trained further with this objective: its scheduler, if
/// it has one, must have the same levels and the same prediction. Returns [`Scheduler::note`].
///
/// # Errors
///
/// If the scheduler differs (the error has both values), or [`Scheduler::parse`] refuses it.
pub fn check_objective(
    folder: &Path,
    objective: &Objective,
) -> Result<Option<String>, DiffusersError> {
    let file = scheduler_file(folder);
    if !file.is_file() {
        return Ok(None);
    }
    let found = scheduler(folder)?;
    difference(&found.objective, objective).map_or(Ok(found.note), |(key, value, reason)| {
        Err(DiffusersError::Value {
            path: file,
            key: key.to_owned(),
            value,
            reason,
        })
    })
}
