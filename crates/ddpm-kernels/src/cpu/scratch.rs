//! Memory that is not zeroed first: working memory, which is reused between calls, and outputs.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Buffers that are not in use.
static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A buffer of floats that returns to the pool when dropped.
pub(crate) struct Scratch {
    /// Never shortened, because growing it again would zero the difference.
    buffer: Vec<f32>,
    len: usize,
}

impl Scratch {
    /// A buffer of `len` floats of any value.
    pub(crate) fn take(len: usize) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, or else the largest, which is then replaced.
        let best = (0..pool.len()).min_by_key(|&k| {
            let there = pool[k].len();
            (there < len, there.abs_diff(len))
        });
        let mut buffer = best.map(|k| pool.swap_remove(k)).unwrap_or_default();
        drop(pool);
        if buffer.len() < len {
            drop(buffer);
            buffer = vec![0.0; len];
        }
        Self { buffer, len }
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.buffer[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        POOL.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(buffer);
    }
}

/// An output of `len` floats before a kernel writes it: any values, NaN in debug builds.
///
/// Zeroing it would be one more pass over the memory, on one thread: 7 % of a training step.
///
/// # Safety
///
/// Every float is written before any is read.
#[allow(unsafe_code, clippy::uninit_vec, reason = "outputs are written once")]
pub(crate) unsafe fn unwritten(len: usize) -> Vec<f32> {
    if cfg!(debug_assertions) {
        return vec![f32::NAN; len];
    }
    let mut output = Vec::with_capacity(len);
    // SAFETY: the capacity is there, and the caller writes before anybody reads.
    unsafe { output.set_len(len) };
    output
}
