//! How much the loss of each noise level counts.

use crate::{Denoise, NoiseLevel, bound};

/// The weight of a level in the training loss.
///
/// A loss is weighted on the network's output, ‖output − target‖², while the theory
/// speaks of ‖x₀ − x̂₀‖². As x̂₀ is affine in the output, a weight w on the second is
/// the weight w·(b/(aq − bp))² on the first, for every target p·x₀ + q·ε.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Weighting {
    /// 1 on the output (Ho et al. 2020, eq. 14, L_simple).
    Simple,
    /// ½(SNR_s − SNR_t) on x̂₀, s = t−1: one KL term of the variational bound, in nats
    /// (Kingma et al. 2021; [`bound::snr_weight`]). That of t = 1 would be infinite, s being clean;
    /// its place takes the decoder N(x̂₀, b₁²·I), whose weight is ½/b₁².
    Vlb,
    /// min(SNR, γ) on x̂₀ (Hang et al. 2023: γ = 5).
    MinSnr {
        /// γ > 0, the largest weight; ∞ leaves the SNR as it is.
        gamma: f64,
    },
}

impl Weighting {
    /// The weight on ‖output − target‖² at the level `t`, which follows `s` and is
    /// inverted by `denoise`.
    pub(crate) fn on_output(self, denoise: Denoise, t: NoiseLevel, s: NoiseLevel) -> f64 {
        let on_x0 = match self {
            Self::Simple => return 1.0,
            Self::Vlb if s == NoiseLevel::CLEAN => 0.5 / t.noise().powi(2),
            Self::Vlb => bound::snr_weight(t, s),
            Self::MinSnr { gamma } => t.snr().min(gamma),
        };
        on_x0 * denoise.output.powi(2)
    }
}
