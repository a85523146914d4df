//! The checkpoints of a run: which there are, which is the newest whole one, which are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::remove;
use super::{CheckpointError, Manifest, io};
use crate::terminal::say;

/// A directory that should be a checkpoint.
#[derive(Debug)]
pub struct Found {
    /// The step in its name.
    pub step: u64,
    /// The directory.
    pub path: PathBuf,
    /// Its manifest if it is whole, and otherwise what is wrong.
    pub manifest: Result<Manifest, CheckpointError>,
}

/// Which checkpoints outlive the next ones; without any rule, all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The last so many are kept.
    pub last: Option<NonZeroUsize>,
    /// Those of the steps that it divides are kept.
    pub every: Option<NonZeroU64>,
    /// So many are kept whose mean loss is the lowest, over the `window` steps up to theirs.
    pub best: Option<NonZeroUsize>,
    /// Steps that the mean loss is over.
    pub window: u64,
}

impl Retention {
    fn keeps_all(self) -> bool {
        self.last.is_none() && self.every.is_none() && self.best.is_none()
    }
}

/// What is read of a line of `metrics.jsonl`.
#[derive(Deserialize)]
struct Loss {
    step: u64,
    loss: f64,
}

/// The mean loss over the `window` steps up to each of `steps`, from the run's metrics; without
/// those of which nothing is known.
fn mean_losses(
    run: &Path,
    steps: &[u64],
    window: u64,
) -> Result<BTreeMap<u64, f64>, CheckpointError> {
    let path = run.join("metrics.jsonl");
    let mut sums = BTreeMap::<u64, (f64, f64)>::new();
    for line in BufReader::new(File::open(&path).map_err(io(&path))?).lines() {
        let line = line.map_err(io(&path))?;
        let Loss { step, loss } =
            serde_json::from_str(&line).map_err(|e| CheckpointError::content(&path, e))?;
        let before = steps.partition_point(|&s| s < step);
        for &s in steps[before..].iter().take_while(|&&s| s - step < window) {
            let (sum, count) = sums.entry(s).or_default();
            *sum += loss;
            *count += 1.0;
        }
    }
    let means = sums.into_iter();
    Ok(means
        .map(|(step, (sum, count))| (step, sum / count))
        .collect())
}

/// The names in a run's `checkpoints`, hidden ones too.
fn names(run: &Path) -> Result<Vec<(PathBuf, String)>, CheckpointError> {
    let folder = run.join("checkpoints");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(io(&folder))? {
        let entry = entry.map_err(io(&folder))?;
        names.push((entry.path(), entry.file_name().to_string_lossy().into()));
    }
    names.sort();
    Ok(names)
}

/// The steps of a run's checkpoints and their directories, oldest first, whole or not.
fn steps(run: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let step = |name: &str| {
        let digits = name.strip_prefix("step-")?;
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| all)
    };
    let names = names(run)?.into_iter();
    let mut steps: Vec<_> = names
        .filter_map(|(path, name)| Some((step(&name)?, path)))
        .collect();
    steps.sort();
    Ok(steps)
}

/// What a process that died left of the checkpoint it was writing, or removing.
///
/// # Errors
///
/// If the folder of checkpoints cannot be read.
pub fn unfinished(run: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
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
pub fn survey(run: &Path) -> Result<Vec<Found>, CheckpointError> {
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
pub fn newest_whole(
    run: &Path,
) -> Result<(Option<PathBuf>, Vec<CheckpointError>), CheckpointError> {
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
    Err(CheckpointError::content(&run.join("checkpoints"), reason))
}

/// The newest whole checkpoint of a run, or `run` itself if it is a checkpoint. Newer ones that are
/// not whole are named on standard error.
///
/// # Errors
///
/// If there is none.
pub fn newest(run: &Path) -> Result<PathBuf, CheckpointError> {
    if run.join("state.json").is_file() {
        Manifest::verify(run)?;
        return Ok(run.to_owned());
    }
    let (found, skipped) = newest_whole(run)?;
    for error in &skipped {
        say(format_args!("skipped: {error}"));
    }
    let nothing = || CheckpointError::content(&run.join("checkpoints"), "holds no checkpoint");
    found.ok_or_else(nothing)
}

/// Removes the checkpoints up to `newest`, which must be whole, that no rule keeps. `newest` itself
/// and what lies beyond it are left alone.
///
/// # Errors
///
/// If the system refuses, or the metrics, by which the best are known, cannot be read; nothing is
/// removed then.
pub fn prune(run: &Path, newest: u64, keep: Retention) -> Result<(), CheckpointError> {
    if keep.keeps_all() {
        return Ok(());
    }
    let mut found = steps(run)?;
    found.retain(|(step, _)| *step <= newest);
    let steps: Vec<u64> = found.iter().map(|(step, _)| *step).collect();
    let mut kept = BTreeSet::from([newest]);
    if let Some(last) = keep.last {
        kept.extend(steps.iter().rev().take(last.get()));
    }
    if let Some(every) = keep.every {
        kept.extend(steps.iter().filter(|step| step.is_multiple_of(every.get())));
    }
    if let Some(best) = keep.best {
        let mut losses: Vec<_> = mean_losses(run, &steps, keep.window)?.into_iter().collect();
        losses.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        kept.extend(losses.iter().take(best.get()).map(|(step, _)| step));
    }
    for (step, path) in found {
        if !kept.contains(&step) {
            remove(&path)?;
        }
    }
    Ok(())
}
