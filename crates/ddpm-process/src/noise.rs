//! Reproducible noise as tensors.

use burn::tensor::{Tensor, TensorCreationOptions, TensorData};
pub use ddpm_random::RowRng;
use ddpm_random::Stream;

/// A counter-based source of noise: [`Stream`] on tensors.
///
/// The noise of sample k at step n depends only on (seed, domain, k, n). Batch size, number of
/// machines and backend therefore cannot change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseStream {
    stream: Stream,
}

impl NoiseStream {
    /// The stream of `seed` for one purpose. Domains with different names share nothing.
    ///
    /// # Panics
    ///
    /// If `domain` is longer than 24 bytes; it is a name in the program, not data.
    pub fn new(seed: u64, domain: &'static str) -> Self {
        Self {
            stream: Stream::new(seed, domain),
        }
    }

    /// The generator of sample `sample` at step `step`.
    pub fn row(&self, sample: u64, step: u32) -> RowRng {
        self.stream.row(sample, step)
    }

    /// Standard normal noise of the given shape `[B, …]`, row i for sample `samples[i]` at `step`:
    /// on a `&device` in its default dtype, or on `(&device, x.dtype())` for an x of another.
    ///
    /// # Panics
    ///
    /// If `samples` does not hold B indices.
    pub fn normal<const D: usize>(
        &self,
        samples: &[u64],
        step: u32,
        shape: [usize; D],
        options: impl Into<TensorCreationOptions>,
    ) -> Tensor<D> {
        assert_eq!(samples.len(), shape[0], "one sample index per row");
        let row: usize = shape[1..].iter().product();
        let mut values = vec![0.0; samples.len() * row];
        for (&sample, out) in samples.iter().zip(values.chunks_exact_mut(row.max(1))) {
            self.row(sample, step).fill_normal(out);
        }
        Tensor::from_data(TensorData::new(values, shape), options)
    }
}
