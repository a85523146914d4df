//! Parametrizations and weights, against the papers' own formulas.

use ddpm_schedule::{
    NoiseLevel, NoiseSchedule, Objective, ObjectiveError, Parametrization, Weighting,
};

use crate::{assert_close, assert_relative};

/// Rounding of λ over the smallest Δ of the schedules here, 10⁻³.
const TOLERANCE: f64 = 1e-10;

fn linear() -> NoiseSchedule {
    NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap()
}

fn zero_snr() -> NoiseSchedule {
    linear().rescale_zero_terminal_snr().unwrap()
}

fn objective(parametrization: Parametrization, weighting: Weighting) -> Objective {
    Objective::new(linear(), parametrization, weighting).unwrap()
}

/// (α_t, ᾱ_{t−1}, ᾱ_t) of DDPM's schedule by the plain product.
fn alphas() -> impl Iterator<Item = (f64, f64, f64)> {
    (0..1000).scan(1.0, |alpha_bar, i| {
        let alpha = 1.0 - (1e-4 + (0.02 - 1e-4) * f64::from(i) / 999.0);
        let previous = *alpha_bar;
        *alpha_bar *= alpha;
        Some((alpha, previous, *alpha_bar))
    })
}

#[test]
fn min_snr_has_the_published_weights() {
    type Published = fn(f64) -> f64;
    // Hang et al. 2023: x₀, then ε over SNR, and v over SNR + 1.
    let cases: [(Parametrization, Published); 3] = [
        (Parametrization::X0, |snr| snr.min(5.0)),
        (Parametrization::Epsilon, |snr| snr.min(5.0) / snr),
        (Parametrization::V, |snr| snr.min(5.0) / (snr + 1.0)),
    ];
    for (parametrization, published) in cases {
        let objective = objective(parametrization, Weighting::MinSnr { gamma: 5.0 });
        for (t, (_, _, alpha_bar)) in objective.schedule().iter().zip(alphas()) {
            let snr = alpha_bar / (1.0 - alpha_bar);
            assert_relative(objective.weight(t), published(snr), TOLERANCE);
        }
    }
}

#[test]
fn an_endless_gamma_weights_epsilon_as_simple_does() {
    let objective = objective(
        Parametrization::Epsilon,
        Weighting::MinSnr {
            gamma: f64::INFINITY,
        },
    );
    for t in objective.schedule().iter() {
        assert_relative(objective.weight(t), 1.0, 1e-13);
    }
}

#[test]
fn simple_weights_every_output_by_one() {
    for parametrization in Parametrization::ALL {
        let objective = objective(parametrization, Weighting::Simple);
        assert!(
            objective
                .schedule()
                .iter()
                .all(|t| objective.weight(t) == 1.0)
        );
    }
}

/// Ho et al. 2020, eq. 12: β²/(2σ²α(1−ᾱ)) on ‖ε − ε̂‖², with σ² = β̃, and σ₁² = β₁ for
/// the decoder.
#[test]
fn the_bound_has_the_weights_of_ddpm() {
    let objective = objective(Parametrization::Epsilon, Weighting::Vlb);
    for (t, (alpha, previous, alpha_bar)) in objective.schedule().iter().zip(alphas()) {
        let beta = 1.0 - alpha;
        let sigma2 = match t.get() {
            1 => beta,
            _ => beta * (1.0 - previous) / (1.0 - alpha_bar),
        };
        let expected = beta * beta / (2.0 * sigma2 * alpha * (1.0 - alpha_bar));
        assert_relative(objective.weight(t), expected, TOLERANCE);
    }
}

/// One KL of the bound, by the closed form for two Gaussians of the same variance:
/// its mean differs by the posterior's x₀ coefficient.
#[test]
fn the_bound_is_a_divergence_of_posteriors() {
    let walk = NoiseSchedule::random_walk(100, 0.5).unwrap();
    let objective = Objective::new(walk, Parametrization::X0, Weighting::Vlb).unwrap();
    let schedule = objective.schedule();
    for t in schedule.iter().skip(1) {
        let posterior = schedule.level(t).posterior(schedule.previous(t));
        let kl = 0.5 * posterior.x0.powi(2) / posterior.variance;
        assert_relative(objective.weight(t), kl, TOLERANCE);
    }
    let first = schedule.timestep(1).unwrap();
    assert_relative(objective.weight(first), 0.5 / 0.25, TOLERANCE);
}

#[test]
fn weights_at_zero_snr_are_their_limits() {
    let schedule = zero_snr();
    let last = schedule.last();
    let snr_before = schedule.previous(last).snr();
    for parametrization in [Parametrization::X0, Parametrization::V] {
        let weight = |weighting| {
            let objective = Objective::new(schedule.clone(), parametrization, weighting);
            objective.unwrap().weight(last)
        };
        assert_eq!(weight(Weighting::Simple), 1.0);
        assert_eq!(weight(Weighting::MinSnr { gamma: 5.0 }), 0.0);
        assert_relative(weight(Weighting::Vlb), 0.5 * snr_before, 1e-13);
    }
}

#[test]
fn epsilon_at_zero_snr_is_refused_by_name() {
    let objective = Objective::new(zero_snr(), Parametrization::Epsilon, Weighting::Simple);
    let Err(ObjectiveError::Parametrization(error)) = objective else {
        panic!("ε at zero SNR has no inverse, but got {objective:?}");
    };
    assert_eq!(error.t, 1000);
    assert_eq!(Parametrization::Epsilon.check(&zero_snr()), Err(error));
    assert_eq!(Parametrization::X0.check(&zero_snr()), Ok(()));
    assert_eq!(Parametrization::V.check(&zero_snr()), Ok(()));
}

#[test]
fn inverses_exist_where_the_output_tells_x0_from_noise() {
    let pure_noise = NoiseLevel::variance_preserving(0.0).unwrap();
    assert_eq!(Parametrization::Epsilon.denoise(pure_noise), None);
    assert_eq!(Parametrization::X0.denoise(NoiseLevel::CLEAN), None);
    // Of 1/a and b/a, the one and then the other is beyond f64.
    for (a, b) in [(1e-320, 1e-321), (1e-300, 1e20)] {
        let level = NoiseLevel::new(a, b).unwrap();
        assert_eq!(Parametrization::Epsilon.denoise(level), None);
    }
    // v at pure noise is −x₀, and at clean data ε.
    let v = Parametrization::V.denoise(pure_noise).unwrap();
    assert_eq!((v.x_t, v.output), (0.0, -1.0));
    let v = Parametrization::V.denoise(NoiseLevel::CLEAN).unwrap();
    assert_eq!((v.x_t, v.output), (1.0, 0.0));
}

#[test]
fn variance_preserving_inverses_are_the_papers() {
    let level = NoiseLevel::variance_preserving(0.36).unwrap();
    let cases = [
        (Parametrization::Epsilon, 1.0 / 0.6, -0.8 / 0.6),
        (Parametrization::X0, 0.0, 1.0),
        (Parametrization::V, 0.6, -0.8),
    ];
    for (parametrization, x_t, output) in cases {
        let denoise = parametrization.denoise(level).unwrap();
        assert_close(denoise.x_t, x_t, 1e-15);
        assert_close(denoise.output, output, 1e-15);
    }
}

#[test]
fn an_objective_denoises_as_its_parametrization_does() {
    let objective = objective(Parametrization::V, Weighting::Simple);
    assert_eq!(objective.parametrization(), Parametrization::V);
    assert_eq!(objective.weighting(), Weighting::Simple);
    for t in objective.schedule().iter() {
        let level = objective.schedule().level(t);
        let denoise = Parametrization::V.denoise(level);
        assert_eq!(denoise, Some(objective.denoise(level)));
    }
}
