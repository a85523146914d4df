//! The reverse steps, each an affine combination of four tensors.

use thiserror::Error;

use crate::coefficient::fits;
use crate::{LearnedVariance, NoiseLevel, Trajectory};

/// How much of the posterior's noise a DDIM step adds, in [0, 1].
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Eta(f64);

/// An η outside [0, 1].
#[derive(Clone, Copy, PartialEq, Debug, Error)]
#[error("η = {0} is outside [0, 1]")]
pub struct EtaError(pub f64);

impl Eta {
    /// No noise: the deterministic DDIM.
    pub const ZERO: Self = Self(0.0);
    /// All of it: DDPM.
    pub const ONE: Self = Self(1.0);

    /// η as given.
    ///
    /// # Errors
    ///
    /// Unless 0 ≤ η ≤ 1.
    pub fn new(eta: f64) -> Result<Self, EtaError> {
        if (0.0..=1.0).contains(&eta) {
            Ok(Self(eta))
        } else {
            Err(EtaError(eta))
        }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// A sampler that cannot take the steps of a trajectory.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum SamplerError {
    /// Noise would be added on the way from data to noise.
    #[error(
        "{sampler:?} adds noise, and cannot go from data to noise, from a log-SNR of {start} to \
         {end}; DDIM with η = 0 and DPM-Solver++ can"
    )]
    AddsNoise {
        /// The sampler refused.
        sampler: Sampler,
        /// The log-SNR that the trajectory starts from.
        start: f64,
        /// The log-SNR that it ends at.
        end: f64,
    },
    /// A number that tensors of single precision cannot be multiplied by.
    #[error(
        "{name} is {value:.2e} in the step that {sampler:?} takes at t = {t}, from a log-SNR of {from} \
         to {to}: single precision has no room for more than 1e32"
    )]
    Coefficient {
        /// The sampler refused.
        sampler: Sampler,
        /// What the number is.
        name: &'static str,
        /// The number.
        value: f64,
        /// The time told at the step.
        t: u32,
        /// The log-SNR that the step starts from.
        from: f64,
        /// The log-SNR that it leads to.
        to: f64,
    },
}

/// How x_s follows from x_t and the denoiser's x̂₀, in any process.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Sampler {
    /// x_s = a_s·x̂₀ + √(b_s² − η²σ_Q²)·ε̂ + η·σ_Q·z with ε̂ = (x_t − a_t·x̂₀)/b_t and
    /// σ_Q² the posterior's variance (Song et al. 2020, eq. 12 and 16).
    Ddim {
        /// 0 adds no noise; 1 is DDPM with variance β̃.
        eta: Eta,
    },
    /// DDPM with variance β: the posterior's mean, and noise of the variance of
    /// q(x_t | x_s), except on the step to clean data (Ho et al. 2020, §3.2).
    AncestralBeta,
    /// DDPM with a variance between β̃ and β that the network chooses for each element
    /// (Nichol & Dhariwal 2021, eq. 15; [`LearnedVariance`]), except on the step to clean
    /// data, which adds no noise.
    AncestralLearned,
    /// DPM-Solver++(2M), the second order multistep ODE solver
    /// (Lu et al. 2022, algorithm 2). A step is of first order, and so DDIM's, where
    /// the extrapolation from two x̂₀ has no finite weights: the first step, the one
    /// after zero SNR, and the one to clean data.
    DpmPp2M,
}

/// x_s = `x0`·x̂₀ + `x0_prev`·x̂₀' + `x_t`·x_t + `z`·e^(`z_span`·v)·z with z ~ N(0, I), where
/// v is the network's own share of β, if it has a say.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Step {
    /// The factor of x̂₀, the denoiser's answer for x_t.
    pub x0: f64,
    /// The factor of x̂₀', its answer on the step before.
    pub x0_prev: f64,
    /// The factor of x_t.
    pub x_t: f64,
    /// The factor of the noise z, its standard deviation where v = 0.
    pub z: f64,
    /// ln of how much larger that is where v = 1: ½ ln(β/β̃) for
    /// [`Sampler::AncestralLearned`], 0 for every other sampler, whatever v is.
    pub z_span: f64,
}

impl Sampler {
    /// DDPM with variance β̃ (Ho et al. 2020): the posterior with x̂₀ for x₀.
    pub const ANCESTRAL: Self = Self::Ddim { eta: Eta::ONE };

    /// Whether a step adds noise z; the one to clean data never does.
    pub fn adds_noise(self) -> bool {
        match self {
            Self::Ddim { eta } => eta > Eta::ZERO,
            Self::AncestralBeta | Self::AncestralLearned => true,
            Self::DpmPp2M => false,
        }
    }

    /// The step from x_t to x_s. `prev` is the level at which x̂₀' was computed, the
    /// step before; `None` on the first.
    ///
    /// A sampler that adds no noise solves an ordinary differential equation, and solves it
    /// in either direction: from noise to data, and from data to noise.
    ///
    /// Every coefficient is finite, with `s` clean or no signal left at t as well, if those of
    /// the levels are; [`steps`](Self::steps) sees to it that tensors have room for them.
    ///
    /// # Panics
    ///
    /// Unless the log-SNR rises from `prev` to `t` to `s`, or falls all the way where no noise
    /// is added and t is not clean.
    pub fn step(self, prev: Option<NoiseLevel>, t: NoiseLevel, s: NoiseLevel) -> Step {
        let [from, to] = [t, s].map(NoiseLevel::log_snr);
        let before = prev.map(NoiseLevel::log_snr);
        assert!(
            from < to && before.is_none_or(|before| before < from)
                || from > to && before.is_none_or(|before| before > from),
            "the log-SNR must go one way, not from {from} to {to} after {before:?}"
        );
        assert!(
            from < f64::INFINITY,
            "no step leads away from clean data, which says nothing of its noise"
        );
        match self {
            Self::Ddim { eta } => ddim(eta, t, s),
            Self::AncestralBeta => ancestral_beta(t, s),
            Self::AncestralLearned => ancestral_learned(t, s),
            Self::DpmPp2M => dpm_pp_2m(prev, t, s),
        }
    }

    /// The steps of a whole trajectory, one for each of its [`pairs`](Trajectory::pairs).
    ///
    /// # Errors
    ///
    /// If the sampler adds noise and the trajectory leads from data to noise. If a coefficient
    /// or the standard deviation of an x_t is not finite or above 10³² in size, where tensors of
    /// single precision have no room for it.
    pub fn steps(self, trajectory: &Trajectory) -> Result<Vec<Step>, SamplerError> {
        let start = trajectory.visits()[0].level.log_snr();
        let end = trajectory.end().log_snr();
        if self.adds_noise() && end < start {
            let sampler = self;
            return Err(SamplerError::AddsNoise {
                sampler,
                start,
                end,
            });
        }
        let mut prev = None;
        let steps = trajectory.pairs().map(|(at, s)| {
            let step = self.step(prev.replace(at.level), at.level, s);
            let mut coefficients = coefficients(at.level, step).into_iter();
            match coefficients.find(|&(_, value)| !fits(value)) {
                None => Ok(step),
                Some((name, value)) => Err(SamplerError::Coefficient {
                    sampler: self,
                    name,
                    value,
                    t: at.t.get(),
                    from: at.level.log_snr(),
                    to: s.log_snr(),
                }),
            }
        });
        steps.collect()
    }
}

/// The numbers of a step from `t` that tensors are multiplied by, and the size of x_t itself.
fn coefficients(t: NoiseLevel, step: Step) -> [(&'static str, f64); 6] {
    [
        ("the standard deviation of x_t", t.prior_std()),
        ("the factor of x̂₀", step.x0),
        ("the factor of the x̂₀ before", step.x0_prev),
        ("the factor of x_t", step.x_t),
        ("the factor of z", step.z),
        ("½ ln(β/β̃)", step.z_span),
    ]
}

/// a_s − a_t·(b_s/b_t)·√keep: the factor that x̂₀ must have where x_t has (b_s/b_t)·√keep, for
/// x_s to have the mean a_s·x₀.
fn x0_factor(t: NoiseLevel, s: NoiseLevel, keep: f64) -> f64 {
    // The larger of the two terms times one minus their ratio, of which this is the logarithm:
    // (a_t·b_s)/(a_s·b_t) = e^(Δ/2).
    let ratio = 0.5 * (t.log_snr_over(s) + keep.ln());
    if ratio <= 0.0 {
        -s.signal() * ratio.exp_m1()
    } else {
        t.signal() * (s.noise() / t.noise()) * keep.sqrt() * (-ratio).exp_m1()
    }
}

fn ddim(Eta(eta): Eta, t: NoiseLevel, s: NoiseLevel) -> Step {
    // σ_Q² = −b_s²·expm1(Δ), so b_s² − η²σ_Q² is b_s²·keep. Without noise the way may lead to
    // less signal too, where there is no posterior.
    let (keep, z) = if eta > 0.0 {
        let posterior = t.posterior(s);
        let share = (1.0 - eta) * (1.0 + eta);
        let keep = share + eta * eta * t.log_snr_over(s).exp();
        (keep, eta * posterior.variance.sqrt())
    } else {
        (1.0, 0.0)
    };
    Step {
        x0: x0_factor(t, s, keep),
        x0_prev: 0.0,
        x_t: s.noise() / t.noise() * keep.sqrt(),
        z,
        z_span: 0.0,
    }
}

fn ancestral_beta(t: NoiseLevel, s: NoiseLevel) -> Step {
    let to_clean = s.log_snr() == f64::INFINITY;
    Step {
        z: if to_clean {
            0.0
        } else {
            t.transition(s).variance.sqrt()
        },
        ..ddim(Eta::ONE, t, s)
    }
}

fn ancestral_learned(t: NoiseLevel, s: NoiseLevel) -> Step {
    Step {
        z_span: 0.5 * LearnedVariance::between(t, s).span(),
        ..ddim(Eta::ONE, t, s)
    }
}

fn dpm_pp_2m(prev: Option<NoiseLevel>, t: NoiseLevel, s: NoiseLevel) -> Step {
    let gap = t.log_snr_over(s);
    // The paper's h is −Δ/2, and its 1/(2r) is h/(2h_prev). Where h_prev is infinite
    // it is zero by itself.
    let extrapolation = match prev {
        Some(prev) if gap.is_finite() => 0.5 * gap / prev.log_snr_over(t),
        _ => 0.0,
    };
    let x0 = x0_factor(t, s, 1.0);
    Step {
        x0: (1.0 + extrapolation) * x0,
        x0_prev: -extrapolation * x0,
        x_t: s.noise() / t.noise(),
        z: 0.0,
        z_span: 0.0,
    }
}
