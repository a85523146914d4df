//! Where threads meet to exchange values. One that leaves breaks the meeting, so that nobody waits for
//! it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::error::RanksError;

/// A place where ranks exchange values of one type, any number of times.
pub(super) struct Meeting<T> {
    round: Mutex<Round<T>>,
    changed: Condvar,
}

struct Round<T> {
    /// How many rounds are complete.
    number: u64,
    /// What the ranks that are here have brought to this round.
    brought: Vec<Option<Arc<Vec<T>>>>,
    /// What all ranks brought to the round before.
    all: Vec<Arc<Vec<T>>>,
    /// Why there will be no further round.
    broken: Option<RanksError>,
}

impl<T> Meeting<T> {
    pub(super) fn of(ranks: usize) -> Self {
        Self {
            round: Mutex::new(Round {
                number: 0,
                brought: (0..ranks).map(|_| None).collect(),
                all: Vec::new(),
                broken: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// Every rank's values, in the order of ranks. It returns once all ranks are here.
    ///
    /// # Errors
    ///
    /// If a rank has left, and so will not come.
    pub(super) fn exchange(
        &self,
        rank: usize,
        values: Vec<T>,
    ) -> Result<Vec<Arc<Vec<T>>>, RanksError> {
        let mut round = self.lock();
        if let Some(error) = &round.broken {
            return Err(error.clone());
        }
        round.brought[rank] = Some(Arc::new(values));
        if round.brought.iter().all(Option::is_some) {
            round.all = round.brought.iter_mut().filter_map(Option::take).collect();
            round.number += 1;
            self.changed.notify_all();
            return Ok(round.all.clone());
        }
        let number = round.number;
        let waits = |round: &mut Round<T>| round.number == number && round.broken.is_none();
        let round = self.changed.wait_while(round, waits);
        let round = round.unwrap_or_else(PoisonError::into_inner);
        match &round.broken {
            // A round that is complete counts, even if a rank left after it.
            Some(error) if round.number == number => Err(error.clone()),
            _ => Ok(round.all.clone()),
        }
    }

    /// Takes notice that a rank will not come any more. The first reason counts.
    pub(super) fn leave(&self, reason: &RanksError) {
        self.lock().broken.get_or_insert_with(|| reason.clone());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Round<T>> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
