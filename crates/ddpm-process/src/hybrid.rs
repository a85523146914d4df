//! Learned variance: the second output of a network, and the loss that trains it.

use std::f64::consts::{SQRT_2, TAU};

use burn::tensor::Tensor;
use ddpm_schedule::{NoiseLevel, NoiseSchedule, Objective, Timestep, bound};

use crate::Example;
use crate::loss::row_mean;
use crate::output::{denoised, heads};
use crate::rows::per_row;

/// The weight of L_vlb in L_hybrid (Nichol & Dhariwal 2021, §3.1).
const LAMBDA: f64 = 0.001;

/// Below this, the probability of a bin, a difference in f32, has too few correct digits.
const SMALL_PROBABILITY: f32 = 1e-5;

/// The likelihood that the last step assigns to the data.
///
/// ```
/// use ddpm_process::Decoder;
///
/// let pixels = Decoder::Bins { max: 255 };
/// let points = Decoder::Density;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoder {
    /// The probability density, for real-valued data.
    Density,
    /// The probability of one of the values 2·k/`max` − 1, k = 0..=`max`. Pixels of 8 bits have
    /// `max` 255 (Ho et al. 2020, eq. 13).
    Bins {
        /// The largest value, above 0.
        max: u32,
    },
}

/// L_hybrid = L_simple + 0.001·L_vlb of each row, shape `[B]` (Nichol & Dhariwal 2021, eq. 16).
///
/// L_simple is the [`training_loss`](crate::training_loss) of the output's first half, with the
/// objective's weighting. L_vlb is T times the term of the bound at t, in nats per dimension. It
/// trains only the second half: x̂₀ is held constant in it. (The authors' code uses bits, so its
/// factor is 0.00144.)
///
/// * `network`: as in [`training_loss`](crate::training_loss), but its output has twice the
///   channels of `x_t` (axis 1); the second half is o of
///   [`LearnedVariance`](ddpm_schedule::LearnedVariance);
/// * `decoder`: the likelihood in the term of t = 1.
///
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::{Decoder, hybrid_loss};
/// use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
///
/// let schedule = NoiseSchedule::cosine(1000, 0.008)?;
/// let t = schedule.timestep(500).unwrap();
/// let objective = Objective::new(schedule, Parametrization::Epsilon, Weighting::Simple)?;
/// let network = |x_t: Tensor<2>, _t: Tensor<1>| Tensor::cat(vec![x_t.clone(), x_t], 1);
/// # let device = burn::tensor::Device::flex();
/// let (x0, eps) = (Tensor::<2>::zeros([1, 2], &device), Tensor::<2>::ones([1, 2], &device));
/// let loss = hybrid_loss(network, &objective, Decoder::Density, x0, eps, &[t]);
/// assert_eq!(loss.dims(), [1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Panics
///
/// If `eps` differs from `x0` in shape or dtype; if the output's shape is not that of `x_t` with
/// twice the channels, or its dtype differs; if there are not B times; if the objective's process
/// is not a discrete schedule; or if the largest value of [`Decoder::Bins`] is 0.
pub fn hybrid_loss<const D: usize>(
    network: impl FnOnce(Tensor<D>, Tensor<1>) -> Tensor<D>,
    objective: &Objective,
    decoder: Decoder,
    x0: Tensor<D>,
    eps: Tensor<D>,
    t: &[Timestep],
) -> Tensor<1> {
    let schedule = discrete(objective);
    let levels: Vec<_> = t.iter().map(|&t| schedule.level(t)).collect();
    let example = Example::new(objective, x0.clone(), eps, &levels);
    let output = network(example.input.clone(), example.time.clone());
    let (output, share) = heads(output, &example.x_t);
    let share = share.expect("the network's output has no second half for the variance");

    let x_t = example.x_t.clone();
    let x0_hat = denoised(objective, x_t, output.clone().detach(), &levels);
    let vlb = bound_terms(objective, decoder, x0, x0_hat, share, t);
    let timesteps = f64::from(schedule.timesteps());
    example.loss(output) + vlb * (LAMBDA * timesteps)
}

/// The schedule of the objective, whose timesteps have one term of the bound each.
fn discrete(objective: &Objective) -> &NoiseSchedule {
    let schedule = objective.process().schedule();
    schedule.expect("the hybrid loss needs a discrete schedule")
}

/// L_{t−1} of each row, and L₀ where t = 1, in nats per dimension.
///
/// With r = ln β − ln β̃ the variance is ln σ² = ln β̃ + v·r, and
/// KL = ½(e^{−vr} − 1 + vr) + ½(SNR_s − SNR_t)·(x₀ − x̂₀)²·e^{−vr}.
fn bound_terms<const D: usize>(
    objective: &Objective,
    decoder: Decoder,
    x0: Tensor<D>,
    x0_hat: Tensor<D>,
    share: Tensor<D>,
    t: &[Timestep],
) -> Tensor<1> {
    let schedule = discrete(objective);
    let is_first = |t: &Timestep| schedule.previous(*t) == NoiseLevel::CLEAN;
    let span = t.iter().map(|&t| schedule.learned_variance(t).span());
    // At t = 1, where s is clean, the weight would be infinite; that row is replaced below. The
    // error is multiplied by the root of the weight before it is squared, because the square alone
    // can be infinite where the weight is small.
    let root = t.iter().map(|t| match schedule.previous(*t) {
        NoiseLevel::CLEAN => 0.0,
        s => bound::snr_weight(schedule.level(*t), s).sqrt(),
    });
    let growth = share * per_row(span, &x0);
    let error = x0.clone() - x0_hat;
    let shrink = growth.clone().neg().exp();
    let spread = (shrink.clone() - 1.0 + growth.clone()) * 0.5;
    let shift = (error.clone() * per_row(root, &x0)).square() * shrink;
    let kl = row_mean(spread + shift);
    if !t.iter().any(is_first) {
        return kl;
    }

    let start = t
        .iter()
        .map(|&t| schedule.learned_variance(t).log_beta_tilde);
    let log_variance = growth + per_row(start, &x0);
    let first = || t.iter().map(|t| f64::from(u8::from(is_first(t))));
    // The other rows get a decoder of variance 1 around x₀, because their own may overflow, and ∞·0
    // would be NaN.
    let of_first: Tensor<D> = per_row(first(), &x0);
    let first: Tensor<1> = per_row(first(), &x0);
    let nll = decoder.nll(x0, error * of_first.clone(), log_variance * of_first);
    let nll = row_mean(nll);
    kl * (first.clone().neg() + 1.0) + nll * first
}

impl Decoder {
    /// −ln p(x₀ | x₁) of each element, for N(x̂₀, e^`log_variance`) and `error` = x₀ − x̂₀.
    ///
    /// If a bin's probability is below 10⁻⁵, it is approximated by the width times the density in
    /// the middle. That has a gradient where the difference of two Φ in f32 has none.
    fn nll<const D: usize>(
        self,
        x0: Tensor<D>,
        error: Tensor<D>,
        log_variance: Tensor<D>,
    ) -> Tensor<D> {
        let precision = (log_variance.clone() * -0.5).exp();
        let z = error * precision.clone();
        let density = (z.clone().square() + log_variance + TAU.ln()) * 0.5;
        let Self::Bins { max } = self else {
            return density;
        };
        assert!(max > 0, "the largest of the values 0..=max must be above 0");
        let half = f64::from(max).recip();
        let reach = precision * half;
        // Φ at x₀ ± 1/max. The first and the last bin extend to ∓∞.
        let phi = |z: Tensor<D>| ((z * SQRT_2.recip()).erf() + 1.0) * 0.5;
        let (first, last) = (
            x0.clone().lower_elem(half - 1.0),
            x0.greater_elem(1.0 - half),
        );
        let below = phi(z.clone() - reach.clone()).mask_fill(first, 0.0);
        let above = phi(z + reach).mask_fill(last, 1.0);
        let probability = above - below;
        let small = probability.clone().lower_elem(SMALL_PROBABILITY);
        let bin = probability.clamp_min(SMALL_PROBABILITY).log().neg();
        bin.mask_where(small, density - (2.0 * half).ln())
    }
}
