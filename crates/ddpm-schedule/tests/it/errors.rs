//! Invalid arguments, and the numbers that their error messages name.

use std::fmt::Display;

use ddpm_schedule::solver::Eta;
use ddpm_schedule::{NoiseLevel, NoiseSchedule, Objective, Parametrization, Process, Weighting};

const NAN: f64 = f64::NAN;
const INFINITY: f64 = f64::INFINITY;

#[track_caller]
fn assert_refused<T, E: Display>(cases: impl IntoIterator<Item = (Result<T, E>, &'static str)>) {
    for (result, message) in cases {
        match result {
            Ok(_) => panic!("accepted, instead of: {message}"),
            Err(error) => assert_eq!(error.to_string(), message),
        }
    }
}

#[test]
fn levels_outside_their_range_are_refused() {
    let coefficients = |a, b| NoiseLevel::new(a, b);
    assert_refused([
        (
            coefficients(0.0, 0.0),
            "signal a = 0 and noise b = 0 must be finite, not negative and not both zero",
        ),
        (
            coefficients(-0.5, 1.0),
            "signal a = -0.5 and noise b = 1 must be finite, not negative and not both zero",
        ),
        (
            coefficients(1.0, NAN),
            "signal a = 1 and noise b = NaN must be finite, not negative and not both zero",
        ),
        (
            coefficients(INFINITY, 1.0),
            "signal a = inf and noise b = 1 must be finite, not negative and not both zero",
        ),
        (
            NoiseLevel::variance_preserving(1.5),
            "ᾱ = 1.5 is outside [0, 1]",
        ),
        (
            NoiseLevel::variance_preserving(-0.1),
            "ᾱ = -0.1 is outside [0, 1]",
        ),
        (
            NoiseLevel::variance_preserving(NAN),
            "ᾱ = NaN is outside [0, 1]",
        ),
        (
            NoiseLevel::from_ln_alpha_bar(0.1),
            "ln ᾱ = 0.1 is outside [−∞, 0]",
        ),
        (
            NoiseLevel::from_ln_alpha_bar(NAN),
            "ln ᾱ = NaN is outside [−∞, 0]",
        ),
        (
            NoiseLevel::variance_exploding(-2.0),
            "σ = -2 is outside [0, ∞)",
        ),
        (
            NoiseLevel::variance_exploding(INFINITY),
            "σ = inf is outside [0, ∞)",
        ),
        (
            NoiseLevel::rectified_flow(1.25),
            "the flow time t = 1.25 is outside [0, 1]",
        ),
        (
            NoiseLevel::rectified_flow(NAN),
            "the flow time t = NaN is outside [0, 1]",
        ),
    ]);
}

#[test]
fn betas_outside_their_range_are_refused() {
    let betas = |betas: &[f64]| NoiseSchedule::from_betas(betas.iter().copied());
    let mut ten = [0.1; 12];
    ten[11] = -0.25;
    assert_refused([
        (betas(&[0.1, 0.2, 1.5]), "β₃ = 1.5 is outside (0, 1)"),
        (betas(&[0.0]), "β₁ = 0 is outside (0, 1)"),
        (betas(&[0.1, 1.0]), "β₂ = 1 is outside (0, 1)"),
        (betas(&[NAN]), "β₁ = NaN is outside (0, 1)"),
        (betas(&ten), "β₁₂ = -0.25 is outside (0, 1)"),
        (
            betas(&[]),
            "a schedule has 1 to 4294967295 timesteps, not 0",
        ),
    ]);
}

#[test]
fn parameters_outside_their_range_are_refused() {
    let none = "a schedule has 1 to 4294967295 timesteps, not 0";
    assert_refused([
        (NoiseSchedule::linear(0, 0.1, 0.2), none),
        (NoiseSchedule::scaled_linear(0, 0.1, 0.2), none),
        (NoiseSchedule::cosine(0, 0.008), none),
        (NoiseSchedule::sigmoid(0, -3.0, 3.0, 1.0), none),
        (NoiseSchedule::random_walk(0, 1.0), none),
        (
            NoiseSchedule::linear(9, 0.0, 0.2),
            "beta_start = 0 is outside (0, 1)",
        ),
        (
            NoiseSchedule::linear(9, 0.1, 2.0),
            "beta_end = 2 is outside (0, 1)",
        ),
        (
            NoiseSchedule::linear(1, 0.1, NAN),
            "beta_end = NaN is outside (0, 1)",
        ),
        (
            NoiseSchedule::scaled_linear(9, -0.1, 0.2),
            "beta_start = -0.1 is outside (0, 1)",
        ),
        (
            NoiseSchedule::scaled_linear(9, 0.1, 1.0),
            "beta_end = 1 is outside (0, 1)",
        ),
        (NoiseSchedule::cosine(9, -0.1), "s = -0.1 is outside [0, ∞)"),
        (NoiseSchedule::cosine(9, NAN), "s = NaN is outside [0, ∞)"),
        (
            NoiseSchedule::cosine(9, 1e200),
            "β₁ = NaN is outside (0, 1)",
        ),
        (
            NoiseSchedule::sigmoid(9, NAN, 3.0, 1.0),
            "start = NaN is outside (−∞, ∞)",
        ),
        (
            NoiseSchedule::sigmoid(9, 3.0, -3.0, 1.0),
            "end = -3 is outside (start, ∞)",
        ),
        (
            NoiseSchedule::sigmoid(9, -3.0, INFINITY, 1.0),
            "end = inf is outside (start, ∞)",
        ),
        (
            NoiseSchedule::sigmoid(9, -3.0, 3.0, 0.0),
            "tau = 0 is outside (0, ∞)",
        ),
        (
            NoiseSchedule::random_walk(9, 0.0),
            "sigma = 0 is outside (0, ∞)",
        ),
        (
            NoiseSchedule::random_walk(9, -1.0),
            "sigma = -1 is outside (0, ∞)",
        ),
        (
            NoiseSchedule::random_walk(9, NAN),
            "sigma = NaN is outside (0, ∞)",
        ),
        (
            NoiseSchedule::random_walk(9, INFINITY),
            "sigma = inf is outside (0, ∞)",
        ),
    ]);
}

#[test]
fn levels_that_do_not_grow_noisier_are_refused() {
    let levels = |sigmas: &[f64]| {
        NoiseSchedule::from_levels(
            sigmas
                .iter()
                .map(|&sigma| NoiseLevel::variance_exploding(sigma).unwrap()),
        )
    };
    assert_refused([
        (
            levels(&[]),
            "a schedule has 1 to 4294967295 timesteps, not 0",
        ),
        (
            levels(&[0.0, 1.0]),
            "the log-SNR must fall at every step, but at t = 1 it goes from inf to inf",
        ),
        (
            levels(&[1.0, 1.0]),
            "the log-SNR must fall at every step, but at t = 2 it goes from 0 to 0",
        ),
        // The second β is lost in the rounding of ln ᾱ.
        (
            NoiseSchedule::from_betas([0.5, 1e-20]),
            "the log-SNR must fall at every step, but at t = 2 it goes from 0 to 0",
        ),
    ]);
}

#[test]
fn only_variance_preserving_schedules_of_two_steps_are_rescaled() {
    let rescale = |schedule: Result<NoiseSchedule, _>| {
        schedule.and_then(|schedule| schedule.rescale_zero_terminal_snr())
    };
    assert_refused([
        (
            rescale(NoiseSchedule::linear(1, 0.1, 0.1)),
            "rescaling keeps ᾱ₁ and sets ᾱ_T to zero, which requires T ≥ 2 timesteps, not 1",
        ),
        (
            rescale(NoiseSchedule::random_walk(2, 1.0)),
            "only a variance preserving schedule can be rescaled, and at t = 1 \
             a² + b² = 2.0000000000000004",
        ),
    ]);
}

#[test]
fn eta_outside_its_range_is_refused() {
    assert_refused([
        (Eta::new(-0.5), "η = -0.5 is outside [0, 1]"),
        (Eta::new(1.5), "η = 1.5 is outside [0, 1]"),
        (Eta::new(NAN), "η = NaN is outside [0, 1]"),
    ]);
    assert_eq!(Eta::new(0.0), Ok(Eta::ZERO));
    assert_eq!(Eta::new(1.0).map(Eta::get), Ok(1.0));
}

#[test]
fn objectives_that_do_not_fit_are_refused() {
    let zero_snr = NoiseSchedule::linear(3, 0.1, 0.3)
        .and_then(|schedule| schedule.rescale_zero_terminal_snr())
        .unwrap();
    let walk = NoiseSchedule::random_walk(3, 1.0).unwrap();
    let quiet = NoiseSchedule::random_walk(3, 1e-200).unwrap();
    let min_snr = |gamma| {
        let weighting = Weighting::MinSnr { gamma };
        Objective::new(walk.clone(), Parametrization::Epsilon, weighting)
    };
    assert_refused([
        (
            Objective::new(zero_snr, Parametrization::Epsilon, Weighting::Simple),
            "Epsilon does not determine x̂₀ at t = 3, where x_t = 0·x₀ + 1·ε",
        ),
        (min_snr(0.0), "the weighting's gamma = 0 is outside (0, ∞]"),
        (
            min_snr(-5.0),
            "the weighting's gamma = -5 is outside (0, ∞]",
        ),
        (
            min_snr(NAN),
            "the weighting's gamma = NaN is outside (0, ∞]",
        ),
        (
            Objective::new(quiet, Parametrization::X0, Weighting::Vlb),
            "the weight of the loss at t = 1 is inf, but single precision allows at most 1e32",
        ),
        (
            Objective::new(
                Process::edm(0.002, 80.0).unwrap(),
                Parametrization::Edm { sigma_data: 0.5 },
                Weighting::Vlb,
            ),
            "the weights of the bound need the timesteps of a schedule, and this process has none",
        ),
    ]);
}
