//! The allocator for programs that train.

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};
pub use mimalloc::MiMalloc as Allocator;

/// mimalloc's option `purge_delay`, which its bindings do not name.
const PURGE_DELAY: mi_option_t = 15;

/// Lets [`Allocator`] keep what the program frees instead of returning it to the system.
///
/// Every training step allocates and frees the same gigabyte. The system zeroes the pages that it hands
/// out, which took 7 % of the step.
pub fn keep_memory() {
    #[allow(unsafe_code, reason = "mimalloc is written in C")]
    // SAFETY: sets an integer of the allocator, at any time and from any thread.
    unsafe {
        mi_option_set(PURGE_DELAY, -1);
    }
}

/// Returns the memory that the program has freed to the system, once: loading a network frees memory
/// that nothing needs afterwards.
pub fn return_memory() {
    #[allow(unsafe_code, reason = "mimalloc is written in C")]
    // SAFETY: frees what is free, at any time and from any thread.
    unsafe {
        mi_collect(true);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[allow(unsafe_code, reason = "mimalloc is written in C")]
    fn the_option_is_the_purge_delay() {
        // SAFETY: reads an integer of the allocator.
        let get = || unsafe { libmimalloc_sys::mi_option_get(super::PURGE_DELAY) };
        // One second: no other option has this default.
        assert_eq!(get(), 1000);
        super::keep_memory();
        assert_eq!(get(), -1);
    }
}
