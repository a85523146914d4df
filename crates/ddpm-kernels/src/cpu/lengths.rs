//! Lengths of tensors, checked for overflow.

/// The number of elements of a tensor of these sizes, or `None` if memory cannot hold that many
/// floats.
pub(crate) fn checked_len(sizes: &[usize]) -> Option<usize> {
    let len = sizes
        .iter()
        .try_fold(1_usize, |len, &size| len.checked_mul(size))?;
    let bytes = len.checked_mul(size_of::<f32>())?;
    isize::try_from(bytes).is_ok().then_some(len)
}

/// The number of elements of a tensor of these sizes.
///
/// # Panics
///
/// If memory cannot hold that many floats.
pub(crate) fn tensor_len(operation: &str, sizes: &[usize]) -> usize {
    checked_len(sizes)
        .unwrap_or_else(|| panic!("{operation}: memory cannot hold a tensor of {sizes:?}"))
}
