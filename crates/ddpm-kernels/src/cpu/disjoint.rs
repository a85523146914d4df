//! A slice that several threads write at once, each its own elements.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice that tasks share; each writes elements that no other task accesses.
pub(crate) struct Disjoint<'a> {
    start: *mut f32,
    len: usize,
    slice: PhantomData<&'a mut [f32]>,
}

#[allow(unsafe_code, reason = "tasks write different rows of one output")]
// SAFETY: `Disjoint` is an exclusive borrow of floats; the only access is `range`, whose caller
// promises that no two threads hold the same element.
unsafe impl Sync for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    pub(crate) fn new(slice: &'a mut [f32]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            slice: PhantomData,
        }
    }

    /// The elements of `range`.
    ///
    /// # Panics
    ///
    /// If `range` leaves the slice.
    ///
    /// # Safety
    ///
    /// While the result lives, nobody else accesses any of these elements.
    #[allow(unsafe_code, clippy::mut_from_ref, reason = "see the type")]
    #[inline(always)]
    pub(crate) unsafe fn range(&self, range: Range<usize>) -> &mut [f32] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds by the assertion, exclusive by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
