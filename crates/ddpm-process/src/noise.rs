//! Reproducible noise as tensors.

use burn::tensor::{Tensor, TensorCreationOptions, TensorData};
pub use ddpm_random::RowRng;
use ddpm_random::Stream;

/// A counter-based source of noise: [`Stream`] on tensors.
///
/// The noise of sample k at step n depends only on (seed, domain, k, n). Batch size, number of
/// machines and backend therefore cannot change it.
///
/// ```
/// use ddpm_process::NoiseStream;
///
/// let noise = NoiseStream::new(7, "sample");
/// # let device = burn::tensor::Device::flex();
/// let batch = noise.normal(&[4, 5], 0, [2, 3], &device);
/// let alone = noise.normal(&[5], 0, [1, 3], &device); // the second row again
/// assert_eq!(batch.narrow(0, 1, 1).into_data(), alone.into_data());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseStream {
    stream: Stream,
}

impl NoiseStream {
    /// The stream of `seed` for one purpose. Streams of different domains are independent.
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

    /// Standard normal noise of the given shape `[B, …]`, with row i for sample `samples[i]` at
    /// `step`. `options` is a `&device` for its default dtype, or `(&device, dtype)`.
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
