//! Checks of operands, and tensors with one number per row.

use burn::tensor::{DType, Tensor, TensorData};
use ddpm_schedule::{NoiseLevel, Process};

/// Refuses a tensor that Burn would broadcast against `x`, or read as another dtype.
///
/// # Panics
///
/// Unless `found` has the shape and the dtype of `x`.
#[track_caller]
pub(crate) fn assert_like<const D: usize>(what: &str, found: &Tensor<D>, x: &Tensor<D>) {
    assert_shape(what, found, x.dims());
    assert_dtype(what, found, x.dtype());
}

/// Refuses a tensor of another shape.
///
/// # Panics
///
/// Unless `found` has this shape.
#[track_caller]
pub(crate) fn assert_shape<const D: usize>(what: &str, found: &Tensor<D>, shape: [usize; D]) {
    let dims = found.dims();
    assert!(
        dims == shape,
        "{what} has the shape {dims:?}, not {shape:?}"
    );
}

/// Refuses a tensor of another dtype.
///
/// # Panics
///
/// Unless `found` has this dtype.
#[track_caller]
pub(crate) fn assert_dtype<const D: usize>(what: &str, found: &Tensor<D>, dtype: DType) {
    let found = found.dtype();
    assert!(
        found == dtype,
        "{what} has the dtype {found:?}, not {dtype:?}"
    );
}

/// Refuses a coefficient that would become infinite, or is NaN.
///
/// # Panics
///
/// Unless `value` is finite in the dtype of `x`.
#[track_caller]
pub(crate) fn assert_fits<const D: usize>(value: f64, x: &Tensor<D>) {
    let dtype = x.dtype();
    let max = dtype.finfo().map_or(f64::MAX, |info| info.max);
    assert!(
        value.abs() <= max,
        "the coefficient {value:.2e} is beyond the range of {dtype:?}, ±{max:.2e}"
    );
}

/// One number per row of `x: [B, …]`, shaped `[B, 1, …]` so that it broadcasts over the rows, on
/// x's device and in its dtype.
///
/// # Panics
///
/// If a number is not finite in that dtype.
pub(crate) fn per_row<const D: usize, const R: usize>(
    values: impl Iterator<Item = f64>,
    x: &Tensor<D>,
) -> Tensor<R> {
    // The schedule is f64; only the finished coefficient is rounded.
    let values: Vec<f64> = values.inspect(|&value| assert_fits(value, x)).collect();
    let mut shape = [1; R];
    shape[0] = values.len();
    Tensor::from_data(TensorData::new(values, shape), (&x.device(), x.dtype()))
}

/// The network time of each row of `x`, shape `[B]`, in x's dtype. If that has 16 bits, it is f32,
/// because bf16 cannot represent every whole number above 256.
pub(crate) fn network_time<const D: usize>(
    process: &Process,
    levels: &[NoiseLevel],
    x: &Tensor<D>,
) -> Tensor<1> {
    let times: Vec<f64> = levels.iter().map(|&at| process.time(at)).collect();
    let dtype = match x.dtype() {
        DType::F16 | DType::BF16 => DType::F32,
        dtype => dtype,
    };
    let shape = [times.len()];
    Tensor::from_data(TensorData::new(times, shape), (&x.device(), dtype))
}
