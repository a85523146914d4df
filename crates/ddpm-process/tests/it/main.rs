//! ddpm-process's tests: examples with exact laws, and properties of random inputs.

mod clip;
mod dtypes;
mod hybrid;
mod noise;
mod oracle;
mod process;
mod properties;
mod shapes;

use burn::tensor::Tensor;
use ddpm_schedule::NoiseSchedule;

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

fn linear() -> NoiseSchedule {
    NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap()
}
