//! Working memory that is kept from call to call.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Buffers nobody uses at the moment.
static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A buffer of floats, handed back for the next taker when dropped.
pub(crate) struct Scratch(Vec<f32>);

impl Scratch {
    /// A buffer of `len` floats of any value.
    pub(crate) fn take(len: usize) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, or else the largest, which then grows.
        let best = (0..pool.len()).min_by_key(|&k| {
            let capacity = pool[k].capacity();
            (capacity < len, capacity.abs_diff(len))
        });
        let mut buffer = best.map(|k| pool.swap_remove(k)).unwrap_or_default();
        drop(pool);
        if buffer.capacity() < len {
            buffer = Vec::with_capacity(len);
        }
        buffer.resize(len, 0.0);
        Self(buffer)
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        POOL.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(buffer);
    }
}
