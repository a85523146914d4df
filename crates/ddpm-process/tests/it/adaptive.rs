//! Adaptive step sizes.

use burn::tensor::{DType, Device, Tensor, TensorData};
use ddpm_process::AdaptiveReverse;
use ddpm_schedule::NoiseLevel;
use ddpm_schedule::solver::{Adaptive, AdaptiveSettings, SolverError};

fn sigma(sigma: f64) -> NoiseLevel {
    NoiseLevel::variance_exploding(sigma).unwrap()
}

/// E[x₀ | x] of N(0.4, 0.5²).
fn gauss(x: Tensor<2>, at: NoiseLevel) -> Tensor<2> {
    let variance = at.sigma().powi(2);
    (x * 0.25 + 0.4 * variance) * (0.25 + variance).recip()
}

/// Sixteen starts at σ = 80, evenly over ±1.7·80. In double precision, because the first errors are
/// far below the rounding of single precision, and they choose the steps.
fn start() -> Tensor<2> {
    let x = (0..16).map(|i| 80.0 * 1.7 * (2.0 * (f64::from(i) + 0.5) / 16.0 - 1.0));
    let data = TensorData::new(x.collect::<Vec<f64>>(), [16, 1]);
    Tensor::from_data(data, (&Device::flex(), DType::F64))
}

fn values(x: Tensor<2>) -> Vec<f64> {
    x.into_data().iter().collect()
}

/// k-diffusion's `dpm_adaptive` with rtol 0.05 and atol 0.0078 has these sums of |x| at σ = 0.01,
/// and these numbers of evaluations.
#[test]
fn the_sums_and_evaluations_are_the_peers() {
    for (order, evaluations, expected) in [(2, 30, 8.581_481_751_79), (3, 24, 8.809_979_196_16)] {
        let control = Adaptive::new(order, AdaptiveSettings::default()).unwrap();
        let ends = [sigma(80.0), sigma(0.01)];
        let mut reverse = AdaptiveReverse::new(gauss, control, ends, start()).unwrap();
        assert_eq!(reverse.progress(ends[0]), 0.0);
        let state = reverse
            .by_ref()
            .map(Result::unwrap)
            .find(|state| state.to == ends[1])
            .unwrap();
        assert_eq!(reverse.evaluations(), evaluations);
        let sum: f64 = values(state.x).iter().map(|x| x.abs()).sum();
        assert!(
            (sum - expected).abs() < 1e-9 * expected,
            "{sum} is not {expected}"
        );
        // One more step leads to clean data, which is x̂₀.
        let last = reverse.next().unwrap().unwrap();
        assert_eq!(last.to, NoiseLevel::CLEAN);
        assert_eq!(values(last.x), values(last.x0));
        assert_eq!(reverse.evaluations(), evaluations + 1);
        assert!(reverse.next().is_none());
        assert_eq!(reverse.progress(ends[0]), 1.0);
    }
}

/// A fiftieth of the tolerance brings the samples nearer to the exact flow, 0.4 + (x − 0.4)·√((0.25
/// + 0.01²)/(0.25 + 80²)), with more evaluations.
#[test]
fn a_smaller_tolerance_is_more_accurate_and_costs_more() {
    let run = |rtol: f64| {
        let settings = AdaptiveSettings {
            rtol,
            atol: 0.2 * rtol,
            ..AdaptiveSettings::default()
        };
        let control = Adaptive::new(3, settings).unwrap();
        let ends = [sigma(80.0), sigma(0.01)];
        let mut reverse = AdaptiveReverse::new(gauss, control, ends, start()).unwrap();
        let state = reverse
            .by_ref()
            .map(Result::unwrap)
            .find(|s| s.to == ends[1]);
        let shrink = ((0.25 + 1e-4) / (0.25 + 6400.0_f64)).sqrt();
        let exact = values(start())
            .into_iter()
            .map(|x| 0.4 + (x - 0.4) * shrink);
        let found = values(state.unwrap().x);
        let off = found.iter().zip(exact).map(|(x, exact)| (x - exact).abs());
        (off.fold(0.0, f64::max), reverse.evaluations())
    };
    let (coarse, fine) = (run(0.05), run(1e-3));
    assert!(fine.0 < 0.1 * coarse.0, "{fine:?} {coarse:?}");
    assert!(fine.1 > coarse.1, "{fine:?} {coarse:?}");
}

/// A denoiser that predicts NaN makes every error infinite.
#[test]
fn an_error_that_never_shrinks_ends_the_run() {
    let control = Adaptive::new(2, AdaptiveSettings::default()).unwrap();
    let broken = |x: Tensor<2>, _: NoiseLevel| x * f64::NAN;
    let ends = [sigma(80.0), sigma(0.01)];
    let mut reverse = AdaptiveReverse::new(broken, control, ends, start()).unwrap();
    let error = reverse.next().unwrap().unwrap_err();
    assert!(matches!(error, SolverError::StepTooSmall { .. }));
    assert!(reverse.next().is_none());
}
