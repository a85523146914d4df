//! The integration tests: examples with exact laws, and properties of random inputs.

mod adaptive;
mod clip;
mod dtypes;
mod examples;
mod hybrid;
mod noise;
mod oracle;
mod process;
mod properties;
mod reverse;
mod shapes;

use burn::tensor::Tensor;
use ddpm_schedule::solver::{Ddim, Ddpm, Eta, Exponential, Interpolant, Variance, Weights};
use ddpm_schedule::{Grid, Levels, NoiseSchedule};

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

const DDIM: Ddim = Ddim { eta: Eta::ZERO };
const SMALL: Ddpm = Ddpm {
    variance: Variance::Small,
};
const LARGE: Ddpm = Ddpm {
    variance: Variance::Large,
};
const LEARNED: Ddpm = Ddpm {
    variance: Variance::Learned,
};
const DPMPP_2M: Exponential = Exponential {
    interpolant: Interpolant::X0,
    order: 2,
    weights: Weights::Midpoint,
    noise: 0.0,
    lower_order_final: false,
};

/// `n` trailing levels of a schedule, and clean data.
fn trailing(schedule: &NoiseSchedule, n: usize) -> Levels {
    Grid::Trailing.levels(&schedule.clone().into(), n).unwrap()
}

fn linear() -> NoiseSchedule {
    NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap()
}
