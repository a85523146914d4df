//! A run's folder: for one process at a time, unused for a new run and used for a resumed one.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::{checkpoint, terminal};

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
        let used = || out.join("config.toml").exists();
        // Nothing is made or locked for what is to be refused.
        ensure!(used() || !resume, "{shown} holds no run to resume");
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
        let held = used() || !checkpoint::survey(out)?.is_empty();
        ensure!(
            resume || !held,
            "{shown} holds a run already: go on with --resume, or choose another --out"
        );
        for path in checkpoint::unfinished(out)? {
            fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        Ok(Self { _lock: lock })
    }
}
