//! The time as a vector.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Tensor, TensorData, activation::silu};

use crate::init::Init;

/// Sinusoidal features of time (Vaswani et al. 2017, as used by Ho et al. 2020).
///
/// For `dim` = 2h the features of t are sin(t·ω_i) and cos(t·ω_i), ω_i = 10000^(−i/(h − shift)),
/// i = 0..h. The sines come first, unless `cos_first` (diffusers' `flip_sin_to_cos`). `freq_shift` is
/// 1 in Ho et al.
///
/// * `t`: `[B]`, any real times;
/// * returns `[B, dim]`.
///
/// # Panics
///
/// If `dim` is odd.
pub fn sinusoidal_embedding(
    t: Tensor<1>,
    dim: usize,
    cos_first: bool,
    freq_shift: f64,
) -> Tensor<2> {
    assert!(
        dim.is_multiple_of(2),
        "the features are sines and cosines in equal number: {dim} is odd"
    );
    let half = dim / 2;
    let step = -(10_000_f64.ln()) / (half as f64 - freq_shift);
    #[allow(clippy::cast_possible_truncation)]
    let omega: Vec<f32> = (0..half).map(|i| (i as f64 * step).exp() as f32).collect();
    let omega = Tensor::<2>::from_data(TensorData::new(omega, [1, half]), &t.device());
    let phase = t.unsqueeze_dim::<2>(1) * omega;
    let (sin, cos) = (phase.clone().sin(), phase.cos());
    Tensor::cat(
        if cos_first {
            vec![cos, sin]
        } else {
            vec![sin, cos]
        },
        1,
    )
}

/// Two linear layers that make the time vector from the sinusoidal features. Every block reads it.
#[derive(Module, Debug)]
pub struct TimeEmbedding {
    linear_1: Linear,
    linear_2: Linear,
}

impl TimeEmbedding {
    pub(crate) fn new(init: &mut Init, input: usize, output: usize) -> Self {
        Self {
            linear_1: init.linear(input, output),
            linear_2: init.linear(output, output),
        }
    }

    /// `[B, input]` → `[B, output]`.
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        self.linear_2.forward(silu(self.linear_1.forward(features)))
    }
}
