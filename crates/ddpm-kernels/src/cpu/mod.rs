//! Kernels on `&[f32]`: images are `[batch, height, width, channels]`, contiguous.

pub mod adamw;
pub mod attention;
pub mod conv;
mod disjoint;
mod gemm;
pub mod isa;
pub mod norm;
pub(crate) mod scratch;
pub(crate) mod vector;
mod words;

pub use isa::Isa;
pub use words::Precision;

/// The product of a tensor's sizes, if that many floats can lie in memory.
pub(crate) fn floats(sizes: &[usize]) -> Option<usize> {
    let len = sizes
        .iter()
        .try_fold(1_usize, |len, &size| len.checked_mul(size))?;
    let bytes = len.checked_mul(size_of::<f32>())?;
    isize::try_from(bytes).is_ok().then_some(len)
}

/// As [`floats`].
///
/// # Panics
///
/// If so many floats cannot lie in memory.
pub(crate) fn tensor_len(operation: &str, sizes: &[usize]) -> usize {
    floats(sizes).unwrap_or_else(|| panic!("{operation}: memory cannot hold a tensor of {sizes:?}"))
}
