//! The likelihood by the probability-flow ODE.
//!
//! In y = x/a and σ = b/a every linear Gaussian process has the same deterministic twin,
//!
//! ```text
//! dy/dσ = ε̂(y, σ) = (y − x̂₀)/σ,
//! ```
//!
//! whose marginals are those of the process (Song et al. 2021, eq. 13; Karras et al. 2022, eq. 1).
//! Along it the density changes by the divergence, d ln p(y)/dσ = −tr(∂ε̂/∂y), so
//!
//! ```text
//! ln p(x_t) = ln p(x_T) + D·ln(a_T/a_t) + ∫ tr(∂ε̂/∂y) dσ
//! ```
//!
//! from σ_t to σ_T. The trace is zᵀ(∂ε̂/∂y)z in expectation over z of independent signs (Hutchinson
//! 1989; Skilling 1989), one backward pass. Heun's method takes the steps in σ, the trapezoidal rule the
//! integral in ln σ: both of second order, and both exact where noise dwarfs the data and y ∝ σ.

use burn::tensor::Tensor;
use ddpm_process::Denoiser;
use ddpm_schedule::{NoiseLevel, NoiseSchedule};

/// ε̂ and each row's σ·zᵀ(∂ε̂/∂y)z at y = x/a.
fn slope<const D: usize>(
    denoiser: &impl Denoiser<D>,
    at: NoiseLevel,
    y: Tensor<D>,
    z: &Tensor<D>,
) -> (Tensor<D>, Tensor<1>) {
    let (a, sigma) = (at.signal(), at.sigma());
    let y = y.autodiff().require_grad();
    let x0 = denoiser.predict(y.clone() * a, at).x0;
    let eps = (y.clone() - x0) / sigma;
    let product = (eps.clone() * z.clone().autodiff()).sum();
    let gradients = product.backward();
    let pulled = y.grad(&gradients);
    let trace = pulled.map_or_else(
        || Tensor::zeros([z.dims()[0]], &z.device()),
        |pulled| per_row(pulled * z.clone()) * sigma,
    );
    (eps.inner(), trace)
}

/// The sum of each row.
fn per_row<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    x.flatten::<2>(1, -1).sum_dim(1).squeeze_dim(1)
}

/// ln p(x_t) of each row, in nats, at the first of `levels`; they rise in noise to one with signal left.
///
/// * `denoiser`: differentiable, on the autodiff device;
/// * `x`: `[B, …]` of the marginal at the first level;
/// * `z`: independent ±1 of the same shape;
/// * `go_on`: asked before each call of the denoiser.
///
/// # Errors
///
/// With the error of `go_on`.
///
/// # Panics
///
/// If there is no level, or no signal at one of them.
pub fn log_density<const D: usize, E>(
    denoiser: &impl Denoiser<D>,
    levels: &[NoiseLevel],
    x: Tensor<D>,
    z: &Tensor<D>,
    mut go_on: impl FnMut() -> Result<(), E>,
) -> Result<Tensor<1>, E> {
    let (first, last) = (levels[0], levels[levels.len() - 1]);
    assert!(
        last.signal() > 0.0,
        "at zero SNR there is no y = x/a: end the levels before it"
    );
    let mut y = x / first.signal();
    go_on()?;
    let mut here = slope(denoiser, first, y.clone(), z);
    let mut integral = here.1.zeros_like();
    for pair in levels.windows(2) {
        let h = pair[1].sigma() - pair[0].sigma();
        let guess = y.clone() + here.0.clone() * h;
        go_on()?;
        let there = slope(denoiser, pair[1], guess, z);
        y = y + (here.0.clone() + there.0) * (0.5 * h);
        // The slope at the corrected place serves the next step and this one's integral.
        go_on()?;
        let there = slope(denoiser, pair[1], y.clone(), z);
        let h = (pair[1].sigma() / pair[0].sigma()).ln();
        integral = integral + (here.1 + there.1.clone()) * (0.5 * h);
        here = there;
    }
    let d = z.dims()[1..].iter().product::<usize>() as f64;
    let x = y * last.signal();
    let std = last.prior_std();
    let log_2pi = std::f64::consts::TAU.ln();
    let prior = per_row(x.square()) * (-0.5 / (std * std)) - d * (0.5 * log_2pi + std.ln());
    Ok(prior + integral + d * (last.signal() / first.signal()).ln())
}

/// About `steps` + 1 levels from t = 1 to T, evenly spaced in ln σ, which is where Heun's steps are
/// worth the same; those without signal are left out.
pub fn levels(schedule: &NoiseSchedule, steps: u32) -> Vec<NoiseLevel> {
    let all: Vec<NoiseLevel> = schedule
        .iter()
        .map(|t| schedule.level(t))
        .filter(|level| level.signal() > 0.0)
        .collect();
    let log_sigma = |level: &NoiseLevel| -0.5 * level.log_snr();
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        return Vec::new();
    };
    let (low, high) = (log_sigma(first), log_sigma(last));
    let mut levels = Vec::new();
    for i in 0..=steps {
        let wanted = low + (high - low) * f64::from(i) / f64::from(steps.max(1));
        let place = all.partition_point(|level| log_sigma(level) < wanted - 1e-12);
        let level = all[place.min(all.len() - 1)];
        if levels.last() != Some(&level) {
            levels.push(level);
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ddpm_process::NoiseStream;
    use ddpm_schedule::NoiseSchedule;
    use std::convert::Infallible;

    /// Gaussian data N(m, s²): x̂₀ = m + g·(x − a·m) with g = a·s²/(a²s² + b²), differentiable, and
    /// p(x_t) = N(a·m, a²s² + b²) known. Signs make the trace of this Jacobian, a multiple of the
    /// identity, exact; what is left is Heun's error over 200 steps in ln σ and f32's 1e-5 of terms
    /// of some hundred nats, and that x_T is not quite N(0, 1).
    #[test]
    fn a_gaussians_density_is_known() {
        let device = Device::flex();
        let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap();
        let (m, s2) = (0.3, 0.25);
        let denoiser = |x: Tensor<2>, at: NoiseLevel| {
            let (a, b) = (at.signal(), at.noise());
            let g = a * s2 / (a * a * s2 + b * b);
            (x - a * m) * g + m
        };
        let levels = levels(&schedule, 200);
        let first = levels[0];
        let (a, b) = (first.signal(), first.noise());
        let variance = a * a * s2 + b * b;
        let stream = NoiseStream::new(0, "flow");
        let rows = [0, 1, 2, 3];
        let z = stream.normal(&rows, 1, [4, 20], &device).sign();
        let x = stream.normal(&rows, 0, [4, 20], &device) * variance.sqrt() + a * m;
        let found = log_density(&denoiser, &levels, x.clone(), &z, || {
            Ok::<(), Infallible>(())
        })
        .unwrap();
        let squares = per_row((x - a * m).square());
        let log = (std::f64::consts::TAU * variance).ln();
        let exact = squares * (-0.5 / variance) - 0.5 * log * 20.0;
        for (found, exact) in found
            .into_data()
            .iter::<f64>()
            .zip(exact.into_data().iter::<f64>())
        {
            assert!((found - exact).abs() < 0.02, "{found} {exact}");
        }
    }

    /// Any matrix A makes a flow: x̂₀ = x − A·x gives dy/dln σ = A·y where a = 1. For
    /// A = (p q; 0 r), which is neither symmetric nor diagonal, and ρ = σ_T/σ₁ it is solved by
    ///
    /// ```text
    /// y₂ = ρ^r·y₂(σ₁),  y₁ = ρ^p·y₁(σ₁) + q·(ρ^p − ρ^r)/(p − r)·y₂(σ₁),
    /// ```
    ///
    /// and zᵀAz = p + r + q·z₁z₂ at every σ, whose mean over the four z is the trace: the rows'
    /// estimates are known one by one, 1.4 nats to either side of it.
    ///
    /// For an eigenvalue λ Heun's error is λ(1 − λ²)/6·0.02³ of y a step, 5e-5 after a hundred: twice
    /// that of ½y²/std², which is 18 at most.
    #[test]
    fn the_trace_is_that_of_any_jacobian() {
        let device = Device::flex();
        let sigma = |i: i32| 0.1 * 1.02_f64.powi(i);
        let levels = (0..=100).map(|i| NoiseLevel::variance_exploding(sigma(i)).unwrap());
        let schedule = NoiseSchedule::from_levels(levels).unwrap();
        let levels: Vec<NoiseLevel> = schedule.iter().map(|t| schedule.level(t)).collect();
        let (p, q, r) = (0.8, 0.7, 0.5);
        let denoiser = |x: Tensor<2>, _: NoiseLevel| {
            let transposed = Tensor::<2>::from_floats([[p, 0.0], [q, r]], &x.device());
            x.clone() - x.matmul(transposed)
        };
        let signs = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]];
        let starts = [[0.5, -1.0], [1.0, 0.3], [-0.8, 0.7], [0.1, 1.2]];
        let (x, z) = (
            Tensor::<2>::from_floats(starts, &device),
            Tensor::<2>::from_floats(signs, &device),
        );
        let found = log_density(&denoiser, &levels, x, &z, || Ok::<(), Infallible>(())).unwrap();

        let rho = sigma(100) / sigma(0);
        let (rho_p, rho_r) = (rho.powf(p), rho.powf(r));
        let variance = 1.0 + sigma(100).powi(2);
        let found = found.into_data().iter::<f64>().collect::<Vec<_>>();
        for ((found, [y1, y2]), [z1, z2]) in found.into_iter().zip(starts).zip(signs) {
            let y = [rho_p * y1 + q * (rho_p - rho_r) / (p - r) * y2, rho_r * y2];
            let squares = y[0] * y[0] + y[1] * y[1];
            let prior = -0.5 * squares / variance - (std::f64::consts::TAU * variance).ln();
            let exact = prior + (p + r + q * z1 * z2) * rho.ln();
            assert!((found - exact).abs() < 2e-3, "{found} is not {exact}");
        }
    }
}
