//! EDM's and the flow's parametrization, by the papers' formulas and by their purpose.

use ddpm_schedule::{NoiseLevel, NoiseSchedule, Objective, Parametrization, Weighting};
use proptest::prelude::*;

use crate::{assert_close, assert_relative, levels};

/// Karras et al. 2022, table 1, where x = x₀ + σ·ε.
#[test]
fn edm_is_preconditioned_by_table_1() {
    for (sigma, sigma_data) in [(0.002_f64, 0.5_f64), (1.0, 0.5), (80.0, 0.5), (3.0, 2.0)] {
        let level = NoiseLevel::variance_exploding(sigma).unwrap();
        let edm = Parametrization::Edm { sigma_data };
        let scale = edm.preconditioning(level).unwrap();
        let variance = sigma.powi(2) + sigma_data.powi(2);
        assert_relative(scale.c_skip, sigma_data.powi(2) / variance, 1e-14);
        assert_relative(scale.c_out, sigma * sigma_data / variance.sqrt(), 1e-14);
        assert_relative(scale.c_in, 1.0 / variance.sqrt(), 1e-14);
    }
}

#[test]
fn limits_and_ranges_of_edm() {
    let edm = Parametrization::Edm { sigma_data: 0.5 };
    let pure = edm
        .preconditioning(NoiseLevel::new(0.0, 2.0).unwrap())
        .unwrap();
    assert_eq!((pure.c_skip, pure.c_out, pure.c_in), (0.0, 0.5, 0.5));
    let clean = edm.preconditioning(NoiseLevel::CLEAN).unwrap();
    assert_eq!((clean.c_skip, clean.c_out, clean.c_in), (1.0, 0.0, 2.0));
    let level = NoiseLevel::new(1.0, 1.0).unwrap();
    for sigma_data in [0.0, -0.5, f64::INFINITY, f64::NAN] {
        let edm = Parametrization::Edm { sigma_data };
        assert_eq!(edm.preconditioning(level), None);
        let schedule = NoiseSchedule::linear(10, 1e-4, 0.02).unwrap();
        assert!(Objective::new(schedule, edm, Weighting::Simple).is_err());
    }
}

/// The other networks see x_t unscaled.
#[test]
fn other_networks_see_x_unscaled() {
    let level = NoiseLevel::new(0.6, 0.3).unwrap();
    for parametrization in Parametrization::ALL {
        let scale = parametrization.preconditioning(level).unwrap();
        let edm = matches!(parametrization, Parametrization::Edm { .. });
        assert_eq!(scale.c_in == 1.0, !edm);
    }
    let [noise, clean] = [NoiseLevel::new(0.0, 1.0).unwrap(), NoiseLevel::CLEAN];
    assert_eq!(Parametrization::Epsilon.preconditioning(noise), None);
    assert_eq!(Parametrization::X0.preconditioning(clean), None);
}

/// x̂₀ = x_t − t·output on a flow (Liu et al. 2022), the Euler step to its end, and the same along
/// the straight path through any level.
#[test]
fn a_flow_goes_straight_to_the_data() {
    let level = NoiseLevel::rectified_flow(0.3).unwrap();
    let scale = Parametrization::Flow.preconditioning(level).unwrap();
    assert_close(scale.c_skip, 1.0, 1e-15);
    assert_close(scale.c_out, -0.3, 1e-15);
    let (x0, eps) = (1.7, -0.4);
    let (a, b) = (2.0, 0.5);
    let level = NoiseLevel::new(a, b).unwrap();
    let scale = Parametrization::Flow.preconditioning(level).unwrap();
    let x = a * x0 + b * eps;
    assert_close(scale.c_skip * x + scale.c_out * (eps - x0), x0, 1e-15);
}

proptest! {
    /// The purpose of table 1: with data of standard deviation σ_data, the network sees and
    /// predicts numbers of unit variance, and c_out is as small as possible.
    #[test]
    fn edm_gives_the_network_unit_variance([level] in levels(), sigma_data in 0.1..3.0) {
        let edm = Parametrization::Edm { sigma_data };
        let scale = edm.preconditioning(level).unwrap();
        let (a, b) = (level.signal(), level.noise());
        let seen = scale.c_in * (a * sigma_data).hypot(b);
        assert_relative(seen, 1.0, 1e-14);
        let target = edm.target(level);
        assert_relative((target.x0 * sigma_data).hypot(target.eps), 1.0, 1e-14);
        // The error of c_skip·x_t alone as an estimate of x₀.
        let error = |c_skip: f64| ((1.0 - c_skip * a) * sigma_data).hypot(c_skip * b);
        assert_relative(error(scale.c_skip), scale.c_out, 1e-6);
        let most = error(0.99 * scale.c_skip).min(error(1.01 * scale.c_skip));
        assert!(scale.c_out <= most * (1.0 + 1e-12));
    }

    /// With unit variance at every level, EDM's target is −v.
    #[test]
    fn edm_of_unit_variance_is_v(share in 1e-6..1.0) {
        let level = NoiseLevel::variance_preserving(share).unwrap();
        let edm = Parametrization::Edm { sigma_data: 1.0 }.target(level);
        let v = Parametrization::V.target(level);
        assert_close(edm.x0, -v.x0, 1e-14);
        assert_close(edm.eps, -v.eps, 1e-14);
    }
}
