//! What a run writes while it trains: a failure is said, and training goes on.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};

use ddpm_files::FileError;
use ddpm_train::checkpoint::{Encoded, Pruner, Writing};
use ddpm_train::metrics::Saved;

use crate::progress::Progress;
use crate::terminal::say;

/// What could not be written, each said once until it can be.
pub(super) struct Troubles {
    /// Where it is said.
    pub(super) progress: Progress,
    open: BTreeMap<&'static str, String>,
}

impl Troubles {
    pub(super) fn new(progress: Progress) -> Self {
        Self {
            progress,
            open: BTreeMap::new(),
        }
    }

    /// Takes notice of an attempt to write `what`; its value, if it succeeded.
    pub(super) fn note<T, E: Display>(
        &mut self,
        what: &'static str,
        result: Result<T, E>,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                if self.open.remove(what).is_some() {
                    self.progress.say(&format!("{what} written again"));
                }
                Some(value)
            }
            Err(error) => {
                let message = format!("{what} not written: {error:#}");
                // The next checkpoint's error names another folder, but is the same trouble.
                if !self.open.contains_key(what) {
                    self.progress.say(&format!("training goes on: {message}"));
                }
                self.open.insert(what, message);
                None
            }
        }
    }

    /// Refuses to call a run complete whose last files could not be written.
    pub(super) fn settle(self, step: u64, out: &Path) -> Result<Progress> {
        if self.open.is_empty() {
            return Ok(self.progress);
        }
        let messages: Vec<_> = self.open.into_values().collect();
        bail!(
            "at step {step} the run ends without its last files: {}; what there is, says: ddpm check {}",
            messages.join("; "),
            out.display()
        );
    }
}

/// Writes the checkpoints of a run, one at a time.
pub(super) struct Saver {
    out: PathBuf,
    pruner: Arc<Pruner>,
    writing: Option<Writing>,
    /// The step of the last checkpoint begun, or of the one the run began with.
    pub(super) last: Option<u64>,
    stall: f64,
}

impl Drop for Saver {
    fn drop(&mut self) {
        // The run ends by an error, and this is the last that can be gone on from.
        if let Some(Err(error)) = self.writing.take().map(Writing::finish) {
            say(format_args!("checkpoint not written: {error}"));
        }
    }
}

impl Saver {
    pub(super) fn new(out: &Path, pruner: Pruner, last: Option<u64>) -> Self {
        Self {
            out: out.to_owned(),
            pruner: Arc::new(pruner),
            writing: None,
            last,
            stall: 0.0,
        }
    }

    /// Saves a step: waits for the checkpoint before it, copies, and leaves the rest to a thread.
    pub(super) fn save(
        &mut self,
        step: u64,
        copy: impl FnOnce() -> Result<Encoded, FileError>,
        troubles: &mut Troubles,
    ) {
        let begun = Instant::now();
        self.finish(troubles);
        self.last = Some(step);
        let writing = copy().and_then(|copy| Writing::begin(&self.out, &self.pruner, copy));
        match writing {
            Ok(writing) => self.writing = Some(writing),
            Err(error) => {
                troubles.note::<(), _>("checkpoint", Err(error));
            }
        }
        self.stall = begun.elapsed().as_secs_f64();
    }

    /// What the checkpoint being written cost, once it is.
    pub(super) fn poll(&mut self, troubles: &mut Troubles) -> Option<Saved> {
        let done = self.writing.as_ref().is_some_and(Writing::is_finished);
        done.then(|| self.finish(troubles)).flatten()
    }

    /// The same, waiting for it.
    pub(super) fn finish(&mut self, troubles: &mut Troubles) -> Option<Saved> {
        let written = troubles.note("checkpoint", self.writing.take()?.finish())?;
        Some(Saved {
            step: written.step,
            bytes: written.bytes,
            seconds: written.seconds,
            stall: self.stall,
        })
    }
}
