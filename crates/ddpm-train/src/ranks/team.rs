//! What connects ranks with each other.

use burn::tensor::Tensor;

use super::error::RanksError;

/// What connects a rank with the others. Every rank must ask for the same, in the same order.
pub(super) trait Team: Send + Sync {
    fn rank(&self) -> usize;
    fn size(&self) -> usize;
    fn local_rank(&self) -> usize;
    fn local_size(&self) -> usize;
    fn gather(&self, values: &[f64]) -> Result<Vec<f64>, RanksError>;
    fn sum(&self, values: Tensor<1>) -> Result<Tensor<1>, RanksError>;
    /// Ends the ranks that are processes. Those that are threads need no end: they hear of it.
    fn abort(&self, _code: i32) {}
}

/// A sum that is made of the values themselves, wherever their tensor is.
pub(super) fn by_host(
    values: &Tensor<1>,
    sum: impl FnOnce(Vec<f32>) -> Result<Vec<f32>, RanksError>,
) -> Result<Tensor<1>, RanksError> {
    let own = values.try_to_vec_as::<f32>();
    let sums = sum(own.map_err(|error| RanksError::Device(error.to_string()))?)?;
    Ok(Tensor::from_data(sums.as_slice(), &values.device()))
}
