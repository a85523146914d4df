//! Weights of the loss, by the papers' formulas for the output that the paper trains.

use ddpm_schedule::{NoiseLevel, NoiseSchedule, Objective, Parametrization, Weighting};

use crate::assert_relative;

const EDM: Parametrization = Parametrization::Edm { sigma_data: 0.5 };

/// The weight of every timestep is the published one of its level.
#[track_caller]
fn assert_published(
    parametrization: Parametrization,
    weighting: Weighting,
    published: impl Fn(NoiseLevel) -> f64,
) {
    let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap();
    let objective = Objective::new(schedule, parametrization, weighting).unwrap();
    let schedule = objective.schedule().unwrap();
    for level in schedule.iter().map(|t| schedule.level(t)) {
        assert_relative(objective.weight(level), published(level), 1e-12);
    }
}

/// k-diffusion weighs EDM's output by (σ·σ_data)²/(σ² + σ_data²)².
#[test]
fn soft_min_snr_is_that_of_k_diffusion() {
    assert_published(EDM, Weighting::SoftMinSnr { gamma: 4.0 }, |level| {
        let sigma = level.sigma();
        (0.5 * sigma).powi(2) / (sigma.powi(2) + 0.25).powi(2)
    });
    // The harmonic mean of SNR and γ, halved.
    let gamma = 5.0;
    let x0 = Parametrization::X0;
    assert_published(x0, Weighting::SoftMinSnr { gamma }, |level| {
        (level.sigma().powi(2) + gamma.recip()).recip()
    });
}

/// Choi et al. multiply the loss of ε by 1/(k + SNR)^γ.
#[test]
fn p2_is_a_factor_of_the_loss_of_epsilon() {
    for (k, gamma) in [(1.0, 1.0), (1.0, 0.5), (2.0, 0.0)] {
        assert_published(
            Parametrization::Epsilon,
            Weighting::P2 { k, gamma },
            |level| {
                let alpha_bar = level.signal().powi(2);
                (k + alpha_bar / level.noise().powi(2)).powf(-gamma)
            },
        );
    }
}

/// λ(σ)·c_out² = 1 (Karras et al., eq. 8 and table 1), and λ(σ) itself on x₀.
#[test]
fn edm_weighs_its_output_by_one() {
    let weighting = Weighting::Edm { sigma_data: 0.5 };
    assert_published(EDM, weighting, |_| 1.0);
    assert_published(Parametrization::X0, weighting, |level| {
        let sigma = level.sigma();
        (sigma.powi(2) + 0.25) / (0.5 * sigma).powi(2)
    });
}

/// Yu et al. multiply the loss of ε by 1/√SNR = b/a.
#[test]
fn debiased_is_a_factor_of_the_loss_of_epsilon() {
    assert_published(
        Parametrization::Epsilon,
        Weighting::Debiased,
        NoiseLevel::sigma,
    );
}

/// Kingma & Gao multiply the loss of ε by sigmoid(bias − λ), and v's loss is 1/(1 + SNR) of x₀'s.
#[test]
fn sigmoid_is_a_factor_of_the_loss_of_epsilon() {
    for bias in [-3.0, 0.0, 2.0] {
        let weighting = Weighting::Sigmoid { bias };
        assert_published(Parametrization::Epsilon, weighting, |level| {
            (1.0 + (level.log_snr() - bias).exp()).recip()
        });
    }
    let unbiased = Weighting::Sigmoid { bias: 0.0 };
    // SNR/(1 + SNR) is ᾱ, and once more 1/(1 + SNR) is 1 − ᾱ.
    assert_published(Parametrization::V, unbiased, |level| {
        level.alpha_bar() * level.noise().powi(2)
    });
}

#[test]
fn invalid_weightings_are_refused() {
    let schedule = NoiseSchedule::linear(10, 1e-4, 0.02).unwrap();
    for (weighting, message) in [
        (
            Weighting::SoftMinSnr { gamma: 0.0 },
            "the weighting's gamma = 0 is outside (0, ∞]",
        ),
        (
            Weighting::P2 { k: 0.0, gamma: 1.0 },
            "the weighting's k = 0 is outside (0, ∞)",
        ),
        (
            Weighting::P2 {
                k: 1.0,
                gamma: -1.0,
            },
            "the weighting's gamma = -1 is outside [0, ∞)",
        ),
        (
            Weighting::Edm {
                sigma_data: f64::NAN,
            },
            "the weighting's sigma_data = NaN is outside (0, ∞)",
        ),
        (
            Weighting::Sigmoid { bias: 1e3 },
            "the weighting's bias = 1000 is outside [−500, 500]",
        ),
    ] {
        let result = Objective::new(schedule.clone(), Parametrization::V, weighting);
        assert_eq!(result.unwrap_err().to_string(), message);
    }
}

/// At zero SNR the weights on x̂₀ are their limits.
#[test]
fn weights_at_zero_snr_are_finite() {
    let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap();
    let schedule = schedule.rescale_zero_terminal_snr().unwrap();
    for (weighting, expected) in [
        (Weighting::SoftMinSnr { gamma: 5.0 }, 0.0),
        (Weighting::P2 { k: 1.0, gamma: 1.0 }, 0.0),
        (Weighting::Edm { sigma_data: 0.5 }, 4.0),
        (Weighting::Debiased, 0.0),
        (Weighting::Sigmoid { bias: 0.0 }, 0.0),
    ] {
        let objective = Objective::new(schedule.clone(), Parametrization::X0, weighting).unwrap();
        let last = schedule.level(schedule.last());
        assert_eq!(objective.weight(last), expected);
    }
}
