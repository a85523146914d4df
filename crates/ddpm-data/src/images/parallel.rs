//! Work on many files, divided among threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::DataError;

/// Does `work` on all items, on so many threads, and returns the results in the order of the items.
/// Calls `done` on this thread with each result as soon as there is one.
///
/// # Errors
///
/// The error of the first item that fails, in the order of the items. Those after it may not be begun.
pub(super) fn in_parallel<T: Send, R: Send>(
    threads: usize,
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> Result<R, DataError> + Sync,
    mut done: impl FnMut(&R),
) -> Result<Vec<R>, DataError> {
    let (items, has_failed) = (Mutex::new(items.enumerate()), AtomicBool::new(false));
    let next = || {
        let mut items = items.lock().unwrap_or_else(PoisonError::into_inner);
        (!has_failed.load(Ordering::Relaxed)).then(|| items.next())?
    };
    let (next, work, has_failed) = (&next, &work, &has_failed);
    thread::scope(|scope| {
        let (sender, results) = channel();
        for _ in 0..threads {
            let sender = sender.clone();
            scope.spawn(move || {
                while let Some((i, item)) = next() {
                    let result = work(item);
                    has_failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    if sender.send((i, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut all: Vec<_> = results
            .into_iter()
            .inspect(|(_, result)| {
                if let Ok(result) = result {
                    done(result);
                }
            })
            .collect();
        // Items are begun in their order, so those before the first failure are all here.
        all.sort_unstable_by_key(|(i, _)| *i);
        all.into_iter().map(|(_, result)| result).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::in_parallel;
    use crate::DataError;

    #[test]
    fn results_and_the_first_error_are_in_the_order_of_the_items() {
        for threads in [1, 3] {
            let mut sum = 0;
            let squares = in_parallel(threads, 0..100, |i| Ok(i * i), |square| sum += square);
            assert_eq!(
                squares.unwrap(),
                (0..100).map(|i| i * i).collect::<Vec<_>>()
            );
            assert_eq!(sum, 328_350);
            let odd = |i: usize| match i % 2 {
                0 => Ok(i),
                _ => Err(DataError::Source(i.to_string())),
            };
            let error = in_parallel(threads, 10..100, odd, |_| ()).unwrap_err();
            assert_eq!(error.to_string(), "11");
        }
    }
}
