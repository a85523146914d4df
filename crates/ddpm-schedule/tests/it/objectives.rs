//! Parametrizations and weights, against the papers' own formulas.

use ddpm_schedule::{
    NoiseLevel, NoiseSchedule, Objective, ObjectiveError, Parametrization, Process, Timestep,
    Weighting,
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

/// The schedule that an objective was made with.
fn schedule(objective: &Objective) -> &NoiseSchedule {
    objective.schedule().unwrap()
}

/// The weight at t.
fn weight(objective: &Objective, t: Timestep) -> f64 {
    objective.weight(schedule(objective).level(t))
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
        for (t, (_, _, alpha_bar)) in schedule(&objective).iter().zip(alphas()) {
            let snr = alpha_bar / (1.0 - alpha_bar);
            assert_relative(weight(&objective, t), published(snr), TOLERANCE);
        }
    }
}

#[test]
fn min_snr_of_infinite_gamma_is_simple() {
    let objective = objective(
        Parametrization::Epsilon,
        Weighting::MinSnr {
            gamma: f64::INFINITY,
        },
    );
    for t in schedule(&objective).iter() {
        assert_relative(weight(&objective, t), 1.0, 1e-13);
    }
}

#[test]
fn simple_weights_every_output_by_one() {
    for parametrization in Parametrization::ALL {
        let objective = objective(parametrization, Weighting::Simple);
        let mut times = schedule(&objective).iter();
        assert!(times.all(|t| weight(&objective, t) == 1.0));
    }
}

/// Ho et al. 2020, eq. 12: β²/(2σ²α(1−ᾱ)) on ‖ε − ε̂‖², with σ² = β̃, and σ₁² = β₁ for
/// the decoder.
#[test]
fn the_bound_has_the_weights_of_ddpm() {
    let objective = objective(Parametrization::Epsilon, Weighting::Vlb);
    for (t, (alpha, previous, alpha_bar)) in schedule(&objective).iter().zip(alphas()) {
        let beta = 1.0 - alpha;
        let sigma2 = match t.get() {
            1 => beta,
            _ => beta * (1.0 - previous) / (1.0 - alpha_bar),
        };
        let expected = beta * beta / (2.0 * sigma2 * alpha * (1.0 - alpha_bar));
        assert_relative(weight(&objective, t), expected, TOLERANCE);
    }
}

/// One KL of the bound, by the closed form for two Gaussians of the same variance:
/// its mean differs by the posterior's x₀ coefficient.
#[test]
fn the_bound_is_a_divergence_of_posteriors() {
    let walk = NoiseSchedule::random_walk(100, 0.5).unwrap();
    let objective = Objective::new(walk, Parametrization::X0, Weighting::Vlb).unwrap();
    let schedule = schedule(&objective);
    for t in schedule.iter().skip(1) {
        let posterior = schedule.level(t).posterior(schedule.previous(t));
        let kl = 0.5 * posterior.x0.powi(2) / posterior.variance;
        assert_relative(weight(&objective, t), kl, TOLERANCE);
    }
    let first = schedule.timestep(1).unwrap();
    assert_relative(weight(&objective, first), 0.5 / 0.25, TOLERANCE);
}

#[test]
fn weights_at_zero_snr_are_their_limits() {
    let schedule = zero_snr();
    let last = schedule.last();
    let snr_before = schedule.previous(last).snr();
    for parametrization in [Parametrization::X0, Parametrization::V] {
        let at_last = |weighting| {
            let objective = Objective::new(schedule.clone(), parametrization, weighting);
            weight(&objective.unwrap(), last)
        };
        assert_eq!(at_last(Weighting::Simple), 1.0);
        assert_eq!(at_last(Weighting::MinSnr { gamma: 5.0 }), 0.0);
        assert_relative(at_last(Weighting::Vlb), 0.5 * snr_before, 1e-13);
    }
}

#[test]
fn epsilon_at_zero_snr_is_refused_by_name() {
    let objective = Objective::new(zero_snr(), Parametrization::Epsilon, Weighting::Simple);
    let Err(ObjectiveError::Parametrization(error)) = objective else {
        panic!("ε at zero SNR has no inverse, but got {objective:?}");
    };
    assert_eq!(error.t, 1000.0);
    let level = zero_snr().level(zero_snr().last());
    assert_eq!(Parametrization::Epsilon.check(level, 1000.0), Err(error));
    for defined in [Parametrization::X0, Parametrization::V] {
        assert_eq!(defined.check(level, 1000.0), Ok(()));
        assert!(Objective::new(zero_snr(), defined, Weighting::Simple).is_ok());
    }
}

#[test]
fn inverses_exist_where_the_output_determines_x0() {
    let pure_noise = NoiseLevel::variance_preserving(0.0).unwrap();
    assert_eq!(Parametrization::Epsilon.preconditioning(pure_noise), None);
    assert_eq!(Parametrization::X0.preconditioning(NoiseLevel::CLEAN), None);
    // First 1/a and then b/a exceeds f64.
    for (a, b) in [(1e-320, 1e-321), (1e-300, 1e20)] {
        let level = NoiseLevel::new(a, b).unwrap();
        assert_eq!(Parametrization::Epsilon.preconditioning(level), None);
    }
    // v at pure noise is −x₀, and at clean data ε.
    let v = Parametrization::V.preconditioning(pure_noise).unwrap();
    assert_eq!((v.c_skip, v.c_out), (0.0, -1.0));
    let v = Parametrization::V
        .preconditioning(NoiseLevel::CLEAN)
        .unwrap();
    assert_eq!((v.c_skip, v.c_out), (1.0, 0.0));
}

#[test]
fn variance_preserving_inverses_are_the_papers() {
    let level = NoiseLevel::variance_preserving(0.36).unwrap();
    let cases = [
        (Parametrization::Epsilon, 1.0 / 0.6, -0.8 / 0.6),
        (Parametrization::X0, 0.0, 1.0),
        (Parametrization::V, 0.6, -0.8),
    ];
    for (parametrization, c_skip, c_out) in cases {
        let c = parametrization.preconditioning(level).unwrap();
        assert_close(c.c_skip, c_skip, 1e-15);
        assert_close(c.c_out, c_out, 1e-15);
        assert_eq!(c.c_in, 1.0);
    }
}

#[test]
fn an_objective_denoises_as_its_parametrization_does() {
    let objective = objective(Parametrization::V, Weighting::Simple);
    assert_eq!(objective.parametrization(), Parametrization::V);
    assert_eq!(objective.weighting(), Weighting::Simple);
    assert_eq!(objective.process(), &Process::from(linear()));
    for t in schedule(&objective).iter() {
        let level = schedule(&objective).level(t);
        let c = Parametrization::V.preconditioning(level);
        assert_eq!(c, Some(objective.preconditioning(level)));
    }
}

#[test]
#[should_panic(expected = "Epsilon does not determine x̂₀ where x_t = 0·x₀ + 1·ε")]
fn a_level_outside_the_process_has_no_preconditioning() {
    let objective = objective(Parametrization::Epsilon, Weighting::Simple);
    objective.preconditioning(NoiseLevel::new(0.0, 1.0).unwrap());
}

/// Continuous processes have objectives too, at every level between their ends, but no timesteps.
#[test]
fn a_continuous_process_has_an_objective() {
    let edm = Process::edm(0.002, 80.0).unwrap();
    let sigma_data = 0.5;
    let parametrization = Parametrization::Edm { sigma_data };
    let objective = Objective::new(edm, parametrization, Weighting::Edm { sigma_data }).unwrap();
    assert_eq!(objective.schedule(), None);
    for sigma in [0.002, 0.3, 80.0] {
        let level = NoiseLevel::variance_exploding(sigma).unwrap();
        assert_relative(objective.weight(level), 1.0, 1e-13);
    }
    // The loss of a flow's velocity is that of x₀ over b², and min-SNR is at most (1−t)²/t².
    let flow = Process::flow(3.0).unwrap();
    let min_snr = Weighting::MinSnr { gamma: 5.0 };
    let objective = Objective::new(flow.clone(), Parametrization::Flow, min_snr).unwrap();
    for t in [0.01_f64, 0.5, 0.9, 1.0] {
        let level = NoiseLevel::rectified_flow(t).unwrap();
        let expected = ((1.0 - t) / t).powi(2).min(5.0) * t * t;
        assert_relative(objective.weight(level), expected, 1e-13);
    }
    // ε at the flow's start is refused; the message has the time.
    let refused = Objective::new(flow, Parametrization::Epsilon, Weighting::Simple);
    let Err(ObjectiveError::Parametrization(error)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((error.t, error.signal), (1000.0, 0.0));
}
