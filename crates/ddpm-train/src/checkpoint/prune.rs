//! Which checkpoints of a run are kept, and the removal of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ddpm_files::{FileError, io, remove_folder};

use super::folder::steps;
use super::manifest::Manifest;
use crate::metrics::{self, Lines};

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

/// Removes the checkpoints of a run that no rule keeps.
///
/// A rule that keeps n checkpoints counts whole ones. It has to read those it counts, which takes a
/// second for some hundred megabytes; so each is read once in the life of a `Pruner`, those that were
/// just written are not read at all, and where there are no more than n, none is.
pub struct Pruner {
    run: PathBuf,
    keep: Retention,
    /// What was found of checkpoints that were read: whether they are whole.
    read: Mutex<BTreeMap<u64, bool>>,
}

impl Pruner {
    /// A pruner of the run in the folder `run`.
    pub fn new(run: &Path, keep: Retention) -> Self {
        Self {
            run: run.to_owned(),
            keep,
            read: Mutex::default(),
        }
    }

    /// Removes the checkpoints up to `newest`, which must be whole, that no rule keeps. `newest`
    /// itself and what lies beyond it are left alone; and so is what the rules cannot judge: a damaged
    /// checkpoint until there are n whole ones that come before it, and one of unknown loss.
    ///
    /// # Errors
    ///
    /// If the system refuses, or the metrics, by which the best are known, cannot be read; nothing is
    /// removed then.
    pub fn prune(&self, newest: u64) -> Result<(), FileError> {
        if self.keep.keeps_all() {
            return Ok(());
        }
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(newest, true);
        let mut found = steps(&self.run)?;
        found.retain(|step, _| *step <= newest);
        let mut kept = BTreeSet::from([newest]);
        let mut keep = |steps: Vec<u64>, n: NonZeroUsize| {
            let all = steps.len() <= n.get();
            let mut whole = 0;
            for step in steps {
                if whole == n.get() {
                    break;
                }
                kept.insert(step);
                let is_whole = || Manifest::verify(&found[&step]).is_ok();
                if !all && *read.entry(step).or_insert_with(is_whole) {
                    whole += 1;
                }
            }
        };
        if let Some(last) = self.keep.last {
            keep(found.keys().rev().copied().collect(), last);
        }
        if let Some(best) = self.keep.best {
            let steps: Vec<_> = found.keys().copied().collect();
            let losses = self.mean_losses(&steps)?;
            let mut steps: Vec<_> = losses.keys().copied().collect();
            steps.sort_by(|a, b| losses[a].total_cmp(&losses[b]));
            keep(steps, best);
            kept.extend(found.keys().filter(|step| !losses.contains_key(step)));
        }
        if let Some(every) = self.keep.every {
            kept.extend(found.keys().filter(|step| step.is_multiple_of(every.get())));
        }
        let mut unkept = found.iter().filter(|(step, _)| !kept.contains(step));
        unkept.try_for_each(|(_, path)| remove_folder(path))
    }

    /// The mean loss over the window of steps up to each of `steps`, from the run's metrics; without
    /// those of which nothing is known.
    fn mean_losses(&self, steps: &[u64]) -> Result<BTreeMap<u64, f64>, FileError> {
        let path = self.run.join(metrics::NAME);
        let mut sums = BTreeMap::<u64, (f64, f64)>::new();
        let bytes = metrics::read(&self.run).map_err(io(&path))?;
        for (line, _) in Lines::of(&bytes).steps {
            let before = steps.partition_point(|&step| step < line.step);
            let those = steps[before..].iter();
            for &step in those.take_while(|&&step| step - line.step < self.keep.window) {
                let (sum, count) = sums.entry(step).or_default();
                *sum += line.loss;
                *count += 1.0;
            }
        }
        let means = sums.into_iter();
        Ok(means
            .map(|(step, (sum, count))| (step, sum / count))
            .collect())
    }
}
