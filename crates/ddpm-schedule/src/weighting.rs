//! The weights of noise levels in the training loss.

use crate::parameter::{check, positive};
use crate::{NoiseLevel, ParameterError, Parametrization, bound};

/// The weight of a level in the training loss.
///
/// The training loss is ‖output − target‖², while the theory is about ‖x₀ − x̂₀‖². Because x̂₀ is
/// affine in the output, a weight w on ‖x₀ − x̂₀‖² is the weight w·(b/(aq − bp))² on ‖output −
/// target‖², for every target p·x₀ + q·ε. Below, "on x̂₀" and "on ε̂" name the error that a weight
/// multiplies.
///
/// ```
/// use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
///
/// let schedule = NoiseSchedule::cosine(1000, 0.008)?;
/// let min_snr = Weighting::MinSnr { gamma: 5.0 };
/// let objective = Objective::new(schedule.clone(), Parametrization::Epsilon, min_snr)?;
/// let level = schedule.level(schedule.first());
/// let snr = level.snr(); // min(SNR, γ) on x̂₀ is min(SNR, γ)/SNR on ε̂
/// assert!((objective.weight(level) * snr - 5.0).abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Weighting {
    /// 1 on the output (Ho et al. 2020, eq. 14, L_simple).
    Simple,
    /// ½(SNR_s − SNR_t) on x̂₀, s = t−1: one KL term of the variational bound, in nats
    /// (Kingma et al. 2021; [`bound::snr_weight`]). At t = 1 it would be infinite, because s is
    /// clean; the decoder N(x̂₀, b₁²·I) takes its place, whose weight is ½/b₁².
    Vlb,
    /// min(SNR, γ) on x̂₀ (Hang et al. 2023: γ = 5).
    MinSnr {
        /// γ > 0, the largest weight; ∞ gives the weight SNR.
        gamma: f64,
    },
    /// SNR·γ/(SNR + γ) on x̂₀, a smooth min-SNR (Crowson et al. 2024, "Hourglass Diffusion
    /// Transformers"; γ = 4 is the weight of k-diffusion with σ_data = ½).
    SoftMinSnr {
        /// γ > 0; ∞ gives the weight SNR.
        gamma: f64,
    },
    /// SNR/(k + SNR)^γ on x̂₀, which is 1/(k + SNR)^γ on ε̂ (Choi et al. 2022, "Perception
    /// Prioritized Training": k = 1, γ = 1 or ½).
    P2 {
        /// k > 0.
        k: f64,
        /// γ ≥ 0; 0 is [`Simple`](Self::Simple) for ε.
        gamma: f64,
    },
    /// λ(σ) = (σ² + σ_data²)/(σ·σ_data)² = SNR + 1/σ_data² on x̂₀, which is 1 on the output of
    /// [`Parametrization::Edm`] (Karras et al. 2022, table 1).
    Edm {
        /// σ_data > 0.
        sigma_data: f64,
    },
    /// √SNR on x̂₀, which is 1/√SNR on ε̂ (Yu et al. 2024, "Debias the Training of Diffusion
    /// Models").
    Debiased,
    /// sigmoid(bias − λ) on ε̂, which is e^bias·sigmoid(λ − bias) on x̂₀ (Kingma & Gao 2023,
    /// "Understanding Diffusion Objectives"; Hoogeboom et al. 2024, "Simpler Diffusion").
    ///
    /// It is soft min-SNR with γ = e^bias.
    Sigmoid {
        /// The λ at which the weight on ε̂ is ½, from −500 to 500.
        bias: f64,
    },
}

impl Weighting {
    /// Checks that the parameters are in range.
    pub(crate) fn check(self) -> Result<(), ParameterError> {
        match self {
            Self::Simple | Self::Vlb | Self::Debiased => {}
            Self::MinSnr { gamma } | Self::SoftMinSnr { gamma } => {
                check("gamma", gamma, "(0, ∞]", gamma > 0.0)?;
            }
            Self::P2 { k, gamma } => {
                positive("k", k)?;
                check("gamma", gamma, "[0, ∞)", gamma >= 0.0 && gamma.is_finite())?;
            }
            Self::Edm { sigma_data } => {
                positive("sigma_data", sigma_data)?;
            }
            Self::Sigmoid { bias } => {
                check("bias", bias, "[−500, 500]", bias.abs() <= 500.0)?;
            }
        }
        Ok(())
    }

    /// The weight on ‖output − target‖² of a parametrization at the level `t`, where `s` is the
    /// next less noisy level.
    pub(crate) fn on_output(self, of: Parametrization, t: NoiseLevel, s: NoiseLevel) -> f64 {
        let snr = t.snr();
        let on_x0 = match self {
            Self::Simple => return 1.0,
            Self::Vlb if s == NoiseLevel::CLEAN => 0.5 / t.noise().powi(2),
            Self::Vlb => bound::snr_weight(t, s),
            Self::MinSnr { gamma } => snr.min(gamma),
            Self::SoftMinSnr { gamma } => snr / (1.0 + snr / gamma),
            Self::P2 { k, gamma } => snr / (k + snr).powf(gamma),
            Self::Edm { sigma_data } => snr + sigma_data.powi(-2),
            Self::Debiased => snr.sqrt(),
            Self::Sigmoid { bias } => snr / (1.0 + snr * (-bias).exp()),
        };
        on_x0 * of.inverse(t).c_out.powi(2)
    }
}
