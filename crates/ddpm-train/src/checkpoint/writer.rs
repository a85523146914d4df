//! Writing checkpoints beside the training loop.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use ddpm_files::{FileError, io};

use super::prune::Pruner;
use super::snapshot::Encoded;
use crate::metrics;

/// A checkpoint that was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Written {
    /// Its step.
    pub step: u64,
    /// Length of its files.
    pub bytes: u64,
    /// How long it took to hash, write, sync and rename it, and to remove what it replaces.
    pub seconds: f64,
}

/// A checkpoint being written by a thread of its own.
pub struct Writing {
    run: PathBuf,
    thread: JoinHandle<Result<Written, FileError>>,
}

impl Writing {
    /// Begins to write a checkpoint of the run in the folder `run`, and to [prune](Pruner::prune) the
    /// others once it is there.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn begin(run: &Path, pruner: &Arc<Pruner>, checkpoint: Encoded) -> Result<Self, FileError> {
        let run = run.to_owned();
        let (folder, pruner) = (run.clone(), pruner.clone());
        let thread = Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || write(&folder, &pruner, checkpoint));
        match thread {
            Ok(thread) => Ok(Self { run, thread }),
            Err(error) => Err(io(&run)(error)),
        }
    }

    /// Whether [`finish`](Self::finish) would return at once.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the checkpoint is written.
    ///
    /// # Errors
    ///
    /// As [`Encoded::write`] and [`Pruner::prune`].
    pub fn finish(self) -> Result<Written, FileError> {
        let panicked = || FileError::content(&self.run, "the writer of checkpoints panicked");
        self.thread.join().unwrap_or_else(|_| Err(panicked()))
    }
}

fn write(run: &Path, pruner: &Pruner, checkpoint: Encoded) -> Result<Written, FileError> {
    let begun = Instant::now();
    let step = checkpoint.step;
    if let Ok(metrics) = File::open(run.join(metrics::NAME)) {
        // The record of a run should not fall behind it, not even in a power cut. Where it cannot
        // be synced the checkpoint is worth no less.
        let _ = metrics.sync_data();
    }
    let (_, bytes) = checkpoint.write(&run.join("checkpoints"))?;
    pruner.prune(step).map_err(|error| {
        let reason = format!("step {step} is written, but older ones are not removed: {error}");
        FileError::content(&run.join("checkpoints"), reason)
    })?;
    Ok(Written {
        step,
        bytes,
        seconds: begun.elapsed().as_secs_f64(),
    })
}
