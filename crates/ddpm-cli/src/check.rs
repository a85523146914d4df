//! What a run's folder holds that can be gone on from.

use std::fmt;
use std::path::{Path, PathBuf};

use ddpm_files::FileError;
use ddpm_train::checkpoint::{Found, Manifest, survey, unfinished};

/// The checkpoints of a run.
#[derive(Debug)]
pub struct RunState {
    run: PathBuf,
    /// All of them, oldest first.
    pub found: Vec<Found>,
    /// What was being written when a process died, which nothing needs.
    pub unfinished: Vec<PathBuf>,
}

/// Verifies every checkpoint of a run.
///
/// # Errors
///
/// If the folder of checkpoints cannot be read.
pub fn check(run: &Path) -> Result<RunState, FileError> {
    Ok(RunState {
        run: run.to_owned(),
        found: survey(run)?,
        unfinished: unfinished(run)?,
    })
}

impl RunState {
    /// The step that a resumed run goes on from, and the checkpoint's manifest.
    pub fn newest(&self) -> Option<(u64, &Manifest)> {
        let mut newest_first = self.found.iter().rev();
        newest_first.find_map(|found| Some((found.step, found.manifest.as_ref().ok()?)))
    }

    /// Whether every checkpoint is whole and there is one.
    pub fn is_whole(&self) -> bool {
        !self.found.is_empty() && self.found.iter().all(|found| found.manifest.is_ok())
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for found in &self.found {
            let state = match &found.manifest {
                Ok(manifest) => format!("whole, {} bytes", manifest.bytes()),
                Err(error) => format!("damaged: {error}"),
            };
            writeln!(f, "step {}: {state}", found.step)?;
        }
        for path in &self.unfinished {
            writeln!(f, "{}: not finished when its process died", path.display())?;
        }
        let run = self.run.display();
        match self.newest() {
            Some((step, _)) => writeln!(
                f,
                "step {step} can be recovered: ddpm train --out {run} --resume"
            ),
            None if self.found.is_empty() => writeln!(f, "no checkpoint was made yet"),
            None => writeln!(f, "nothing can be recovered"),
        }
    }
}
