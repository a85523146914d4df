//! Where a denoiser is asked: a noise level, and the time that its network is told there.

use crate::{NoiseLevel, NoiseSchedule, Timestep};

/// A noise level, and the time that the network is told there.
///
/// At the times of a schedule the two belong together. Between them, and on the way from data
/// to noise, they are two different things: the level is what x = a·x₀ + b·ε is made of, and
/// the time is one that the network was trained at.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Visit {
    /// The time told.
    pub t: Timestep,
    /// The level of x.
    pub level: NoiseLevel,
}

impl NoiseSchedule {
    /// t and its level.
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn visit(&self, t: Timestep) -> Visit {
        Visit {
            t,
            level: self.level(t),
        }
    }

    /// The level of log-SNR λ from λ_T to λ₁, between two timesteps or at one.
    ///
    /// With w the share of the way from λ of the less noisy one to λ of the other, √(a² + b²)
    /// is interpolated as a power of w: a process that preserves variance still does. The time
    /// told is the one nearer in log-SNR, w < ½ or not, for a network knows no others.
    ///
    /// `None` beyond the levels of the schedule.
    pub fn at_log_snr(&self, log_snr: f64) -> Option<Visit> {
        let noisier = |&t: &Timestep| self.level(t).log_snr() <= log_snr;
        let high = self.visit(self.iter().find(noisier)?);
        if high.level.log_snr() == log_snr {
            return Some(high);
        }
        let low = self.visit(self.timestep(high.t.get() - 1)?);
        let [above, below] = [low, high].map(|visit| visit.level.log_snr());
        let w = (above - log_snr) / (above - below);
        let ln_std = |visit: Visit| visit.level.prior_std().ln();
        let ln_std = (1.0 - w) * ln_std(low) + w * ln_std(high);
        // a²/(a² + b²) = 1/(1 + e^−λ), and b² with e^λ.
        Some(Visit {
            t: if w < 0.5 { low.t } else { high.t },
            level: NoiseLevel {
                ln_a: ln_std - 0.5 * ln_1p_exp(-log_snr),
                ln_b: ln_std - 0.5 * ln_1p_exp(log_snr),
            },
        })
    }
}

/// ln(1 + eˣ), finite wherever x is.
fn ln_1p_exp(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
