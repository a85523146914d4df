//! Processes: the noise level at each time, and the time that a network is given at each level.

use std::f64::consts::FRAC_PI_2;

use crate::parameter::{check, positive};
use crate::{NoiseLevel, NoiseSchedule, ParameterError};

/// The time t of the least noisy end of a continuous process: the first of a thousand equal steps.
/// Networks are rarely trained below it.
const LEAST_TIME: f64 = 1e-3;
/// The network time of a variance preserving process is 999·t (Song et al. 2021, code).
const VP_SCALE: f64 = 999.0;
/// The network time of a rectified flow is 1000·t (Esser et al. 2024, code).
const FLOW_SCALE: f64 = 1000.0;

/// A diffusion process: its noise levels, and the *network time*, which a network is given at each.
///
/// The log-SNR falls strictly as the time rises, so that [`time`](Self::time) depends on the level
/// alone.
///
/// | process | network time | level at time t |
/// |---|---|---|
/// | [`Discrete`](Self::Discrete) | t−1 | the schedule's levels |
/// | [`VpLinear`](Self::VpLinear) | 999·t | −ln a² = β_min·t + ½(β_max − β_min)·t², a² + b² = 1 |
/// | [`VpCosine`](Self::VpCosine) | 999·t | a = cos((t + s)/(1 + s)·π/2)/cos(s/(1 + s)·π/2), a² + b² = 1 |
/// | [`Edm`](Self::Edm) | ¼·ln σ | a = 1, b = σ |
/// | [`Flow`](Self::Flow) | 1000·t | a = 1−t, b = t |
///
/// ```
/// use ddpm_schedule::Process;
///
/// let process = Process::edm(0.002, 80.0)?;
/// let (noisiest, _) = process.ends();
/// assert_eq!(process.time(noisiest), 0.25 * 80_f64.ln());
/// # Ok::<(), ddpm_schedule::ParameterError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Process {
    /// The levels of t = 1..=T. Between two timesteps the log-SNR is interpolated linearly; if T
    /// has no signal, a/√(a² + b²) is interpolated from T−1 to T instead.
    Discrete(NoiseSchedule),
    /// Variance preserving with β(t) from β_min at t = 0 to β_max at 1 (Song et al. 2021, eq. 32).
    #[non_exhaustive]
    VpLinear {
        /// β(0), above 0.
        beta_min: f64,
        /// β(1), at least `beta_min`.
        beta_max: f64,
    },
    /// Variance preserving with a cosine (Nichol & Dhariwal 2021, eq. 17). No signal at t = 1.
    #[non_exhaustive]
    VpCosine {
        /// The offset s ≥ 0.
        s: f64,
    },
    /// Data plus noise of standard deviation σ (Karras et al. 2022).
    #[non_exhaustive]
    Edm {
        /// The smallest σ.
        sigma_min: f64,
        /// The largest σ.
        sigma_max: f64,
    },
    /// Rectified flow: straight paths from data to noise (Liu et al. 2022).
    #[non_exhaustive]
    Flow {
        /// s in t = s·u/(1 + (s−1)·u). Grids and training take equal steps of u, which are denser
        /// near the noise for s > 1 (Esser et al. 2024, eq. 23).
        shift: f64,
    },
}

impl From<NoiseSchedule> for Process {
    fn from(schedule: NoiseSchedule) -> Self {
        Self::Discrete(schedule)
    }
}

impl Process {
    /// [`VpLinear`](Self::VpLinear); Song et al. use β_min = 0.1 and β_max = 20.
    ///
    /// # Errors
    ///
    /// Unless 0 < `beta_min` ≤ `beta_max` < ∞.
    pub fn vp_linear(beta_min: f64, beta_max: f64) -> Result<Self, ParameterError> {
        positive("beta_min", beta_min)?;
        let rises = beta_max >= beta_min && beta_max.is_finite();
        check("beta_max", beta_max, "[beta_min, ∞)", rises)?;
        Ok(Self::VpLinear { beta_min, beta_max })
    }

    /// [`VpCosine`](Self::VpCosine); Nichol & Dhariwal use s = 0.008.
    ///
    /// # Errors
    ///
    /// Unless 0 ≤ s < ∞.
    pub fn vp_cosine(s: f64) -> Result<Self, ParameterError> {
        check("s", s, "[0, ∞)", s >= 0.0 && s.is_finite())?;
        Ok(Self::VpCosine { s })
    }

    /// [`Edm`](Self::Edm); Karras et al. use σ from 0.002 to 80.
    ///
    /// # Errors
    ///
    /// Unless 0 < `sigma_min` < `sigma_max` < ∞.
    pub fn edm(sigma_min: f64, sigma_max: f64) -> Result<Self, ParameterError> {
        positive("sigma_min", sigma_min)?;
        let above = sigma_max > sigma_min && sigma_max.is_finite();
        check("sigma_max", sigma_max, "(sigma_min, ∞)", above)?;
        Ok(Self::Edm {
            sigma_min,
            sigma_max,
        })
    }

    /// [`Flow`](Self::Flow); a shift of 1 leaves the flow as it is.
    ///
    /// # Errors
    ///
    /// Unless 0 < `shift` < ∞.
    pub fn flow(shift: f64) -> Result<Self, ParameterError> {
        positive("shift", shift)?;
        Ok(Self::Flow { shift })
    }

    /// The schedule of a [`Discrete`](Self::Discrete) process.
    pub fn schedule(&self) -> Option<&NoiseSchedule> {
        match self {
            Self::Discrete(schedule) => Some(schedule),
            _ => None,
        }
    }

    /// The level at a network time.
    ///
    /// `None` outside 0..=T−1 (discrete), 0..=999 (variance preserving) or 0..=1000 (flow), and for
    /// a time that is not finite.
    pub fn level(&self, time: f64) -> Option<NoiseLevel> {
        let unit = |t: f64| (0.0..=1.0).contains(&t);
        match *self {
            Self::Discrete(ref schedule) => level_at(schedule, time),
            Self::VpLinear { beta_min, beta_max } => {
                let t = Some(time / VP_SCALE).filter(|&t| unit(t))?;
                let integral = beta_min * t + 0.5 * (beta_max - beta_min) * t * t;
                NoiseLevel::from_ln_alpha_bar(-integral).ok()
            }
            Self::VpCosine { s } => {
                let t = Some(time / VP_SCALE).filter(|&t| unit(t))?;
                // With θ the angle at t and θ₀ that at 0, a = sin(π/2 − θ)/cos θ₀, and
                // b² = 1 − a² = sin(θ − θ₀)·sin(θ + θ₀)/cos² θ₀.
                let ln_sin = |share: f64| (share / (1.0 + s) * FRAC_PI_2).sin().ln();
                let ln_cos = ln_sin(1.0);
                Some(NoiseLevel {
                    ln_a: ln_sin(1.0 - t) - ln_cos,
                    ln_b: 0.5 * (ln_sin(t) + ln_sin(t + 2.0 * s)) - ln_cos,
                })
            }
            Self::Edm { .. } => time.is_finite().then_some(NoiseLevel {
                ln_a: 0.0,
                ln_b: 4.0 * time,
            }),
            Self::Flow { .. } => NoiseLevel::rectified_flow(time / FLOW_SCALE).ok(),
        }
    }

    /// The network time of a level. It depends on the log-SNR alone, so the level need not belong
    /// to this process.
    ///
    /// Beyond the ends of a variance preserving process or of a schedule, it is the time of the
    /// end. Clean data has the time −∞ in [`Edm`](Self::Edm).
    #[doc(alias = "c_noise")]
    pub fn time(&self, level: NoiseLevel) -> f64 {
        let lambda = level.log_snr();
        match *self {
            Self::Discrete(ref schedule) => time_at(schedule, lambda),
            Self::VpLinear { beta_min, beta_max } => {
                // −ln a² = β_min·t + ½(β_max − β_min)·t², solved for t.
                let integral = ln_1p_exp(-lambda);
                let slope = (beta_min.powi(2) + 2.0 * (beta_max - beta_min) * integral).sqrt();
                let t = 2.0 * integral / (beta_min + slope);
                // Without signal, t = ∞/∞ is NaN, and `min` returns 1.
                VP_SCALE * t.min(1.0)
            }
            Self::VpCosine { s } => {
                let NoiseLevel { ln_a, ln_b } = level_with(0.0, lambda);
                let (a, b) = (ln_a.exp(), ln_b.exp());
                // cos θ = a·cos θ₀, and sin² θ = b² + a²·sin² θ₀.
                let (sin, cos) = (s / (1.0 + s) * FRAC_PI_2).sin_cos();
                let angle = b.hypot(a * sin).atan2(a * cos);
                VP_SCALE * ((1.0 + s) * angle / FRAC_PI_2 - s).clamp(0.0, 1.0)
            }
            Self::Edm { .. } => -lambda / 8.0,
            Self::Flow { .. } => FLOW_SCALE * (-ln_1p_exp(0.5 * lambda)).exp(),
        }
    }

    /// The noisiest and the least noisy level. Grids run between them, and training draws from
    /// them. The least noisy level of a variance preserving process or a flow is that of t = 10⁻³,
    /// before the flow's shift.
    #[expect(clippy::missing_panics_doc, reason = "both times are in range")]
    pub fn ends(&self) -> (NoiseLevel, NoiseLevel) {
        if let Self::Discrete(schedule) = self {
            return (
                schedule.level(schedule.last()),
                schedule.level(schedule.first()),
            );
        }
        let (noisiest, least) = match *self {
            Self::Edm {
                sigma_min,
                sigma_max,
            } => (0.25 * sigma_max.ln(), 0.25 * sigma_min.ln()),
            Self::Flow { .. } => (FLOW_SCALE, FLOW_SCALE * LEAST_TIME),
            _ => (VP_SCALE, VP_SCALE * LEAST_TIME),
        };
        let level = |unshifted| {
            self.level(self.shifted(unshifted))
                .expect("a time of the process")
        };
        (level(noisiest), level(least))
    }

    /// √(a² + b²) of the noisiest level: the standard deviation of the Gaussian from which a
    /// reverse process starts.
    #[doc(alias = "init_noise_sigma")]
    pub fn prior_std(&self) -> f64 {
        self.ends().0.prior_std()
    }

    /// The level with log-SNR λ.
    ///
    /// Between two timesteps of a schedule, ln √(a² + b²) is interpolated linearly in time, so a
    /// variance preserving process stays one.
    ///
    /// `None` beyond the levels of a schedule, for NaN, for +∞, and for −∞ if σ would be infinite
    /// in [`Edm`](Self::Edm).
    pub fn at_log_snr(&self, lambda: f64) -> Option<NoiseLevel> {
        match self {
            Self::Discrete(schedule) => {
                let ends = self.ends();
                let within = ends.0.log_snr() <= lambda && lambda <= ends.1.log_snr();
                let near = level_at(schedule, within.then(|| time_at(schedule, lambda))?)?;
                let exact = near.log_snr() == lambda;
                Some(if exact {
                    near
                } else {
                    level_with(near.ln_std(), lambda)
                })
            }
            _ if lambda.is_nan() || lambda == f64::INFINITY => None,
            Self::VpLinear { .. } | Self::VpCosine { .. } => Some(level_with(0.0, lambda)),
            Self::Edm { .. } => (lambda > f64::NEG_INFINITY).then_some(NoiseLevel {
                ln_a: 0.0,
                ln_b: -0.5 * lambda,
            }),
            Self::Flow { .. } => Some(NoiseLevel {
                ln_a: -ln_1p_exp(-0.5 * lambda),
                ln_b: -ln_1p_exp(0.5 * lambda),
            }),
        }
    }

    /// The network time before a flow's shift. Grids and training take equal steps of it.
    pub(crate) fn unshifted(&self, level: NoiseLevel) -> f64 {
        let time = self.time(level);
        match *self {
            Self::Flow { shift } => shifted(time, shift.recip()),
            _ => time,
        }
    }

    /// The network time of an unshifted time: applies the flow's shift.
    pub(crate) fn shifted(&self, unshifted: f64) -> f64 {
        match *self {
            Self::Flow { shift } => shifted(unshifted, shift),
            _ => unshifted,
        }
    }

    /// σ in the convention of the process: b/(a + b) for the flow, b/a otherwise.
    pub(crate) fn sigma(&self, level: NoiseLevel) -> f64 {
        match self {
            Self::Flow { .. } => self.time(level) / FLOW_SCALE,
            _ => level.sigma(),
        }
    }

    /// The inverse of [`sigma`](Self::sigma).
    pub(crate) fn at_sigma(&self, sigma: f64) -> Option<NoiseLevel> {
        match self {
            Self::Flow { .. } => NoiseLevel::rectified_flow(sigma).ok(),
            _ => self.at_log_snr(-2.0 * sigma.ln()),
        }
    }
}

/// 1000·t for t = s·u/(1 − u + s·u) and u = `time`/1000; exact at both ends. The inverse has 1/s in
/// place of s.
fn shifted(unshifted: f64, s: f64) -> f64 {
    let u = unshifted / FLOW_SCALE;
    FLOW_SCALE * (s * u / ((1.0 - u) + s * u))
}

/// The level at a time 0..=T−1.
fn level_at(schedule: &NoiseSchedule, time: f64) -> Option<NoiseLevel> {
    let last = f64::from(schedule.timesteps() - 1);
    let low = (0.0..=last).contains(&time).then_some(time.floor())?;
    let level = |index: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number from 0 to T−1"
        )]
        schedule
            .timestep(1 + index as u32)
            .map(|t| schedule.level(t))
    };
    let w = time - low;
    let (low, high) = (level(low)?, level(low + 1.0));
    let Some(high) = high.filter(|_| w > 0.0) else {
        return Some(low);
    };
    let lambda = if high.ln_a == f64::NEG_INFINITY {
        // a²/(a² + b²) of the level, from that of T−1.
        let ln_share = 2.0 * (-w).ln_1p() - ln_1p_exp(-low.log_snr());
        ln_share - (-ln_share.exp_m1()).ln()
    } else {
        (1.0 - w) * low.log_snr() + w * high.log_snr()
    };
    Some(level_with(
        (1.0 - w) * low.ln_std() + w * high.ln_std(),
        lambda,
    ))
}

/// The inverse of [`level_at`] by the log-SNR; 0 or T−1 beyond the ends.
fn time_at(schedule: &NoiseSchedule, lambda: f64) -> f64 {
    let at = |t| schedule.level(t).log_snr();
    let Some(high) = schedule.first_at_most(lambda) else {
        return f64::from(schedule.timesteps() - 1);
    };
    let Some(low) = schedule.timestep(high.get() - 1) else {
        return 0.0;
    };
    let (above, below) = (at(low), at(high));
    let w = if below == f64::NEG_INFINITY {
        // 1 − a/a_{T−1}, both a of a² + b² = 1.
        -(0.5 * (ln_1p_exp(-above) - ln_1p_exp(-lambda))).exp_m1()
    } else {
        (above - lambda) / (above - below)
    };
    f64::from(low.get() - 1) + w
}

/// The level with the given ln √(a² + b²) and λ: a² = (a² + b²)/(1 + e^−λ), b² = (a² + b²)/(1 +
/// e^λ).
fn level_with(ln_std: f64, lambda: f64) -> NoiseLevel {
    NoiseLevel {
        ln_a: ln_std - 0.5 * ln_1p_exp(-lambda),
        ln_b: ln_std - 0.5 * ln_1p_exp(lambda),
    }
}

/// ln(1 + eˣ), finite wherever x is.
fn ln_1p_exp(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
