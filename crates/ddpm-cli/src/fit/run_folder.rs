//! A run's folder: for one process at a time, unused for a new run and used for a resumed one.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use ddpm_train::checkpoint;

use crate::terminal;

/// A run's folder as long as this process has it.
pub(super) struct Claim {
    /// The system's lock on `run.lock`, which ends with the process however it ends.
    _lock: File,
}

impl Claim {
    /// Takes the folder of a run, making it for a new one.
    ///
    /// # Errors
    ///
    /// If a new run's folder holds a run or a resumed one's holds none, or another process has it.
    pub(super) fn new(out: &Path, resume: bool) -> Result<Self> {
        let shown = out.display();
        // Nothing is made or locked for what is to be refused.
        ensure!(holds_run(out) || !resume, "{shown} holds no run to resume");
        let context = || shown.to_string();
        fs::create_dir_all(out).with_context(context)?;
        let path = out.join("run.lock");
        let lock = File::create(&path).with_context(|| path.display().to_string())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{shown} is in use by another process"),
            Err(TryLockError::Error(error)) => {
                terminal::say(format_args!(
                    "{shown} cannot be locked ({error}): see that no other process trains there"
                ));
            }
        }
        for folder in [out.join("samples"), out.join("checkpoints")] {
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        ensure!(
            resume || !holds_run(out),
            "{shown} holds a run already: go on with --resume, or choose another --out"
        );
        for path in checkpoint::unfinished(out)? {
            fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        Ok(Self { _lock: lock })
    }
}

/// The file with the configuration of the run in a folder, which a resumed run has by default.
///
/// # Errors
///
/// If the folder holds no run, or no whole checkpoint where only checkpoints have it.
pub fn configuration(out: &Path) -> Result<PathBuf> {
    let file = out.join("config.toml");
    if file.exists() {
        return Ok(file);
    }
    // Its process may have died between the checkpoint it began with and the file.
    let found = checkpoint::exists(out).then(|| checkpoint::newest_whole(out));
    let (found, _) = found.transpose()?.unwrap_or_default();
    let found = found.map(|checkpoint| checkpoint.join("config.toml"));
    found.with_context(|| format!("{} holds no run to resume", out.display()))
}

/// Whether a folder holds a run. One that begins with given weights has a checkpoint before all else.
pub(super) fn holds_run(out: &Path) -> bool {
    out.join("config.toml").exists() || checkpoint::exists(out)
}
