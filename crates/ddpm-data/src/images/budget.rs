//! The memory that images may take while they are decoded.

use std::fmt;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::system;

/// The assumed memory of the machine if the system does not report it.
const UNKNOWN: u64 = 8 << 30;

/// Half of the machine's memory, shared by the threads that decode: large images wait for one another.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    free: Mutex<u64>,
    freed: Condvar,
}

/// A part of the budget, until it is dropped.
pub(super) struct Held<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(super) fn of_this_machine() -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let limit = system::memory().map_or(UNKNOWN, |bytes| bytes as u64) / 2;
        Self {
            limit,
            free: Mutex::new(limit),
            freed: Condvar::new(),
        }
    }

    /// All of it, in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes so many bytes, at most the limit, once they are free.
    pub(super) fn hold(&self, bytes: u64) -> Held<'_> {
        let bytes = bytes.min(self.limit);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.freed.wait_while(free, |free| *free < bytes);
        *free.unwrap_or_else(PoisonError::into_inner) -= bytes;
        Held {
            budget: self,
            bytes,
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let budget = self.budget;
        *budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        budget.freed.notify_all();
    }
}

/// Shows the limit: `7.8 GiB, half of this machine's memory`.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}, half of this machine's memory", Size(self.limit))
    }
}

/// Bytes in GiB, for messages.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:.1} GiB", self.0 as f64 / (1_u64 << 30) as f64)
    }
}
