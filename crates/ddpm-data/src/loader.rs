//! The order of the rows: a function of the seed, independent of the workers that prepare the
//! batches.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use ddpm_random::Stream;

use crate::{DataError, Dataset};

/// Number of batches that a worker may prepare in advance.
const AHEAD: usize = 2;

/// The rows of one step, or this process's share of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The rows, one after the other, in [−1, 1].
    pub rows: Vec<f32>,
    /// Their classes, if the data is labelled.
    pub labels: Option<Vec<usize>>,
    /// The position of each row in the run's endless sequence: step·batch + i. All random numbers
    /// of a row are keyed by it.
    pub samples: Vec<u64>,
    /// Their indices in the data.
    pub indices: Vec<usize>,
}

/// Pure access to the batches of a run: order = f(seed, epoch), batch = f(step).
#[derive(Clone)]
struct RowOrder {
    dataset: Arc<dyn Dataset>,
    batch_size: usize,
    /// The rows of each batch that this process makes.
    share: Range<usize>,
    shuffle: Stream,
    flips: Option<Stream>,
    /// The permutation last used, with its epoch.
    permutation: Option<(u64, Vec<u32>)>,
}

impl RowOrder {
    fn index(&mut self, position: u64) -> usize {
        let len = self.dataset.len() as u64;
        let (epoch, place) = (position / len, position % len);
        if self.permutation.as_ref().is_none_or(|(e, _)| *e != epoch) {
            self.permutation = Some((epoch, permutation(self.shuffle, epoch, self.dataset.len())));
        }
        self.permutation
            .as_ref()
            .and_then(|(_, p)| p.get(usize::try_from(place).ok()?))
            .map_or(0, |&i| i as usize)
    }

    fn batch(&mut self, step: u64) -> Result<Batch, DataError> {
        let first = step * self.batch_size as u64;
        let share = self.share.clone();
        let samples: Vec<u64> = share.map(|i| first + i as u64).collect();
        let indices: Vec<usize> = samples.iter().map(|&p| self.index(p)).collect();
        let row_len = self.dataset.row_len();
        let mut rows = vec![0.0; row_len * samples.len()];
        for ((&sample, &i), out) in samples.iter().zip(&indices).zip(rows.chunks_mut(row_len)) {
            self.dataset.write_row(i, out)?;
            if self.flips.is_some_and(|f| f.row(sample, 0).uniform() < 0.5) {
                mirror(self.dataset.shape(), out);
            }
        }
        let labels = indices.iter().map(|&i| self.dataset.label(i)).collect();
        Ok(Batch {
            rows,
            labels,
            samples,
            indices,
        })
    }
}

/// Mirrors an image left to right; other rows stay as they are.
fn mirror(shape: &[usize], row: &mut [f32]) {
    if let [_, _, width] = shape {
        row.chunks_exact_mut(*width).for_each(<[f32]>::reverse);
    }
}

/// The rows `0..len` in an order that depends on a seed: for every n, the first n are a random
/// sample without replacement.
///
/// # Panics
///
/// If there are more than 2³² − 1 rows.
pub fn shuffled(seed: u64, len: usize) -> Vec<u32> {
    assert!(
        u32::try_from(len).is_ok(),
        "{len} rows are too many to count"
    );
    permutation(Stream::new(seed, "sample of rows"), 0, len)
}

/// Fisher and Yates' shuffle of 0..len for one epoch.
#[allow(clippy::cast_possible_truncation)]
fn permutation(stream: Stream, epoch: u64, len: usize) -> Vec<u32> {
    let mut rng = stream.row(epoch, 0);
    let mut order: Vec<u32> = (0..len as u32).collect();
    for i in (1..order.len()).rev() {
        let j = rng.one_to(i as u32 + 1) as usize - 1;
        order.swap(i, j);
    }
    order
}

/// A batch, or why it could not be made.
type Prepared = Result<Batch, DataError>;

/// An endless iterator over batches, prepared ahead by worker threads and always in order.
///
/// Worker w of W prepares the steps ≡ w (mod W) and the loader takes from the workers in turn, so
/// the sequence is the same for any number of workers. Epochs follow each other without a gap; a
/// batch may contain rows of two. Dropping the loader ends its threads.
pub struct Loader {
    order: RowOrder,
    workers: Vec<(Receiver<Prepared>, JoinHandle<()>)>,
    first_step: u64,
    step: u64,
}

impl Loader {
    /// Batches from step `first_step` = 0, 1, … on, with the rows `share` of each; with `flip`,
    /// each row is mirrored with probability ½. Without workers, batches are made on demand.
    ///
    /// # Errors
    ///
    /// If the data is empty or has more than 2³² − 1 rows, `batch_size` is not in 1..2³², `share`
    /// exceeds it, `first_step` is so large that positions would overflow within 2³² steps, or a
    /// thread cannot be started.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        batch_size: usize,
        share: Range<usize>,
        seed: u64,
        flip: bool,
        workers: usize,
        first_step: u64,
    ) -> Result<Self, DataError> {
        let rows = dataset.len();
        let countable = |n: usize| n > 0 && u32::try_from(n).is_ok();
        if !countable(rows) || !countable(batch_size) || share.end > batch_size {
            let message = format!("cannot make batches of {batch_size} from {rows} rows");
            return Err(DataError::Batches(message));
        }
        let end = first_step.checked_add(1 << 32);
        if end
            .and_then(|end| end.checked_mul(batch_size as u64))
            .is_none()
        {
            let message = format!("step {first_step} of {batch_size} rows is too large to count");
            return Err(DataError::Batches(message));
        }
        let order = RowOrder {
            dataset,
            batch_size,
            share,
            shuffle: Stream::new(seed, "order"),
            flips: flip.then(|| Stream::new(seed, "flip")),
            permutation: None,
        };
        let workers = (0..workers as u64)
            .map(|worker| {
                let (sender, receiver) = sync_channel(AHEAD);
                let mut order = order.clone();
                let run = move || {
                    let steps = (first_step + worker..).step_by(workers);
                    // Sending fails once the loader is dropped, which ends the thread.
                    for batch in steps.map(|step| order.batch(step)) {
                        if sender.send(batch).is_err() {
                            break;
                        }
                    }
                };
                Ok((receiver, Builder::new().spawn(run)?))
            })
            .collect::<Result<_, std::io::Error>>()
            .map_err(|e| DataError::Batches(format!("cannot start {workers} workers: {e}")))?;
        Ok(Self {
            order,
            workers,
            first_step,
            step: first_step,
        })
    }

    /// The batch of any step, made immediately; the iterator returns the same one.
    ///
    /// # Errors
    ///
    /// If a row cannot be read.
    ///
    /// # Panics
    ///
    /// If the positions of its rows exceed u64.
    pub fn batch(&self, step: u64) -> Result<Batch, DataError> {
        self.order.clone().batch(step)
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step;
        self.step += 1;
        let workers = self.workers.len().max(1) as u64;
        let turn = usize::try_from((step - self.first_step) % workers).unwrap_or(0);
        let prepared = self
            .workers
            .get(turn)
            .and_then(|(batches, _)| batches.recv().ok());
        // If a worker has died, its batches are made here: slower, but the same.
        Some(prepared.unwrap_or_else(|| self.order.batch(step)))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // All channels close before the first join, so every worker is already ending.
        let threads: Vec<_> = self.workers.drain(..).map(|(_, thread)| thread).collect();
        for thread in threads {
            // A worker that panicked has printed its message itself.
            let _ = thread.join();
        }
    }
}
