//! One noise level, x = a·x₀ + b·ε, and the two Gaussians between a pair of them.

use thiserror::Error;

/// The coefficients of x = a·x₀ + b·ε with ε ~ N(0, I): signal a and noise b.
///
/// One pair (a, b) describes every Gaussian process:
///
/// | process | a | b | constructor |
/// |---|---|---|---|
/// | variance preserving (DDPM) | √ᾱ | √(1−ᾱ) | [`variance_preserving`](Self::variance_preserving) |
/// | variance exploding, random walk | 1 | σ | [`variance_exploding`](Self::variance_exploding) |
/// | rectified flow | 1−t | t | [`rectified_flow`](Self::rectified_flow) |
///
/// The type stores ln a and ln b, so that 1−ᾱ near the data and ᾱ near the noise keep their digits.
/// The methods use the log-SNR λ = 2(ln a − ln b) in place of ratios of signal-to-noise ratios. For
/// a pair s < t, where s is less noisy, and Δ = λ_t − λ_s < 0: SNR_t/SNR_s = e^Δ and 1 −
/// SNR_t/SNR_s = −expm1(Δ) (Kingma et al. 2021, "Variational Diffusion Models").
///
/// ```
/// use ddpm_schedule::NoiseLevel;
///
/// let t = NoiseLevel::variance_preserving(0.36)?;
/// assert!((t.signal() - 0.6).abs() < 1e-15);
/// assert!((t.noise() - 0.8).abs() < 1e-15);
/// let s = NoiseLevel::variance_preserving(0.9)?;
/// let posterior = t.posterior(s); // q(x_s | x_t, x₀)
/// assert!(posterior.variance < t.transition(s).variance);
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NoiseLevel {
    pub(crate) ln_a: f64,
    pub(crate) ln_b: f64,
}

/// Invalid arguments of a [`NoiseLevel`].
///
/// ```
/// use ddpm_schedule::NoiseLevel;
///
/// let error = NoiseLevel::variance_preserving(1.5).unwrap_err();
/// assert_eq!(error.to_string(), "ᾱ = 1.5 is outside [0, 1]");
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum LevelError {
    /// a or b is negative or not finite, or both are zero.
    #[error("signal a = {a} and noise b = {b} must be finite, not negative and not both zero")]
    Coefficients {
        /// The signal coefficient.
        a: f64,
        /// The noise coefficient.
        b: f64,
    },
    /// ᾱ is outside [0, 1].
    #[error("ᾱ = {0} is outside [0, 1]")]
    AlphaBar(f64),
    /// ln ᾱ is positive or NaN.
    #[error("ln ᾱ = {0} is outside [−∞, 0]")]
    LnAlphaBar(f64),
    /// σ is negative or not finite.
    #[error("σ = {0} is outside [0, ∞)")]
    Sigma(f64),
    /// The time of a rectified flow is outside [0, 1].
    #[error("the flow time t = {0} is outside [0, 1]")]
    FlowTime(f64),
}

/// q(x_t | x_s) = N(`signal`·x_s, `variance`·I) for s < t.
///
/// ```
/// use ddpm_schedule::NoiseSchedule;
///
/// let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02)?;
/// let t = schedule.last();
/// let step = schedule.level(t).transition(schedule.previous(t));
/// assert!((step.variance - 0.02).abs() < 1e-12); // β_T
/// assert!((step.signal - (1.0_f64 - 0.02).sqrt()).abs() < 1e-12);
/// # Ok::<(), ddpm_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Transition {
    /// a_t/a_s, the factor of x_s in the mean.
    pub signal: f64,
    /// −b_t²·expm1(Δ): β_t for one step of DDPM, σ² for one step of the random walk.
    pub variance: f64,
}

/// q(x_s | x_t, x₀) = N(`x0`·x₀ + `x_t`·x_t, `variance`·I) for s < t.
///
/// ```
/// use ddpm_schedule::NoiseLevel;
///
/// let t = NoiseLevel::variance_preserving(0.5)?;
/// let posterior = t.posterior(NoiseLevel::CLEAN); // x_s is x₀
/// assert_eq!((posterior.x0, posterior.x_t, posterior.variance), (1.0, 0.0, 0.0));
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Posterior {
    /// −a_s·expm1(Δ), the factor of x₀ in the mean.
    pub x0: f64,
    /// a_t·b_s²/(a_s·b_t²), the factor of x_t in the mean.
    pub x_t: f64,
    /// σ_Q² = −b_s²·expm1(Δ): β̃_t for one step of DDPM.
    pub variance: f64,
}

impl NoiseLevel {
    /// The data itself: a = 1, b = 0. Every reverse process ends here.
    pub const CLEAN: Self = Self {
        ln_a: 0.0,
        ln_b: f64::NEG_INFINITY,
    };

    /// The level of x = a·x₀ + b·ε in any process.
    ///
    /// # Errors
    ///
    /// Unless a and b are finite, not negative and not both zero.
    pub fn new(a: f64, b: f64) -> Result<Self, LevelError> {
        let valid = |x: f64| x >= 0.0 && x.is_finite();
        if valid(a) && valid(b) && a.max(b) > 0.0 {
            Ok(Self {
                ln_a: a.ln(),
                ln_b: b.ln(),
            })
        } else {
            Err(LevelError::Coefficients { a, b })
        }
    }

    /// The variance preserving level a = √ᾱ, b = √(1−ᾱ), from ln ᾱ.
    ///
    /// This constructor is exact near the data, where ᾱ rounds to 1 and 1−ᾱ to 0: −expm1(ln ᾱ)
    /// keeps every digit. ln ᾱ = −∞ is pure noise.
    ///
    /// # Errors
    ///
    /// Unless −∞ ≤ ln ᾱ ≤ 0.
    pub fn from_ln_alpha_bar(ln_alpha_bar: f64) -> Result<Self, LevelError> {
        if ln_alpha_bar <= 0.0 {
            Ok(Self {
                ln_a: 0.5 * ln_alpha_bar,
                ln_b: 0.5 * (-ln_alpha_bar.exp_m1()).ln(),
            })
        } else {
            Err(LevelError::LnAlphaBar(ln_alpha_bar))
        }
    }

    /// The level a = √ᾱ, b = √(1−ᾱ) (Ho et al. 2020, eq. 4).
    ///
    /// # Errors
    ///
    /// Unless 0 ≤ ᾱ ≤ 1.
    pub fn variance_preserving(alpha_bar: f64) -> Result<Self, LevelError> {
        if (0.0..=1.0).contains(&alpha_bar) {
            Self::from_ln_alpha_bar(alpha_bar.ln())
        } else {
            Err(LevelError::AlphaBar(alpha_bar))
        }
    }

    /// The level a = 1, b = σ (Karras et al. 2022).
    ///
    /// # Errors
    ///
    /// Unless 0 ≤ σ < ∞.
    pub fn variance_exploding(sigma: f64) -> Result<Self, LevelError> {
        Self::new(1.0, sigma).map_err(|_| LevelError::Sigma(sigma))
    }

    /// The level a = 1−t, b = t (Liu et al. 2022), t = 0 being the data.
    ///
    /// # Errors
    ///
    /// Unless 0 ≤ t ≤ 1.
    pub fn rectified_flow(t: f64) -> Result<Self, LevelError> {
        if (0.0..=1.0).contains(&t) {
            Ok(Self {
                ln_a: (-t).ln_1p(),
                ln_b: t.ln(),
            })
        } else {
            Err(LevelError::FlowTime(t))
        }
    }

    /// a, the factor of x₀.
    pub fn signal(self) -> f64 {
        self.ln_a.exp()
    }

    /// b, the standard deviation of the noise.
    pub fn noise(self) -> f64 {
        self.ln_b.exp()
    }

    /// ᾱ = a².
    pub fn alpha_bar(self) -> f64 {
        (2.0 * self.ln_a).exp()
    }

    /// λ = 2(ln a − ln b): +∞ for clean data, −∞ for pure noise.
    pub fn log_snr(self) -> f64 {
        2.0 * (self.ln_a - self.ln_b)
    }

    /// σ = b/a: the noise of x/a. ∞ for pure noise.
    pub fn sigma(self) -> f64 {
        (self.ln_b - self.ln_a).exp()
    }

    /// ½λ = ln a − ln b, what the papers of exponential integrators call λ.
    pub(crate) fn half_log_snr(self) -> f64 {
        self.ln_a - self.ln_b
    }

    /// a²/b².
    pub fn snr(self) -> f64 {
        self.log_snr().exp()
    }

    /// √(a² + b²), the standard deviation of x for data of unit variance. A reverse process starts
    /// from a Gaussian of this width. It is 1 if the process preserves variance.
    pub fn prior_std(self) -> f64 {
        self.signal().hypot(self.noise())
    }

    /// ln √(a² + b²).
    pub(crate) fn ln_std(self) -> f64 {
        self.prior_std().ln()
    }

    /// q(x_t | x_s), where x_t has this level and x_s the level `s`.
    ///
    /// The result is finite for every pair, also if `s` is clean or t has no signal.
    ///
    /// # Panics
    ///
    /// Unless `s` is less noisy: SNR(s) > SNR(t).
    pub fn transition(self, s: Self) -> Transition {
        let delta = self.delta(s);
        Transition {
            signal: (self.ln_a - s.ln_a).exp(),
            variance: -(2.0 * self.ln_b).exp() * delta.exp_m1(),
        }
    }

    /// q(x_s | x_t, x₀), where x_t has this level and x_s the level `s`
    /// (Ho et al. 2020, eq. 6 and 7, for any process).
    ///
    /// The result is finite for every pair, also if `s` is clean or t has no signal.
    ///
    /// # Panics
    ///
    /// Unless `s` is less noisy: SNR(s) > SNR(t).
    pub fn posterior(self, s: Self) -> Posterior {
        let delta = self.delta(s);
        Posterior {
            x0: -s.signal() * delta.exp_m1(),
            x_t: (self.ln_a - s.ln_a + 2.0 * (s.ln_b - self.ln_b)).exp(),
            variance: -(2.0 * s.ln_b).exp() * delta.exp_m1(),
        }
    }

    /// The level with ½λ = `half_log_snr` on the process that leads from this level to `s`, between
    /// the two or beyond.
    ///
    /// If a is equal at both levels, it stays constant (variance exploding). If a + b = 1 at both,
    /// the sum stays 1 (rectified flow). Otherwise ln √(a² + b²) is linear in λ, so a variance
    /// preserving process stays one.
    ///
    /// This level must have noise.
    pub(crate) fn along(self, s: Self, half_log_snr: f64) -> Self {
        let equal = |x: f64, y: f64| (x - y).abs() < 1e-9;
        let sum = |level: Self| level.signal() + level.noise();
        let ln_1p_exp = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        if equal(self.ln_a, s.ln_a) {
            let (ln_a, ln_b) = (self.ln_a, self.ln_a - half_log_snr);
            return Self { ln_a, ln_b };
        }
        if equal(sum(self), 1.0) && equal(sum(s), 1.0) {
            let (ln_a, ln_b) = (-ln_1p_exp(-half_log_snr), -ln_1p_exp(half_log_snr));
            return Self { ln_a, ln_b };
        }
        let [from, to] = [self, s].map(Self::half_log_snr);
        let w = if from.is_finite() {
            (half_log_snr - from) / (to - from)
        } else {
            1.0
        };
        let [from, to] = [self, s].map(|level| level.prior_std().ln());
        let ln_std = (1.0 - w) * from + w * to;
        // a²/(a² + b²) = 1/(1 + e^−λ) and b²/(a² + b²) = 1/(1 + e^λ).
        Self {
            ln_a: ln_std - 0.5 * ln_1p_exp(-2.0 * half_log_snr),
            ln_b: ln_std - 0.5 * ln_1p_exp(2.0 * half_log_snr),
        }
    }

    /// Δ = λ_t − λ_s, which is negative.
    pub(crate) fn delta(self, s: Self) -> f64 {
        let delta = self.log_snr_over(s);
        assert!(
            delta < 0.0,
            "a step must lead to a higher log-SNR, not from {} to {}",
            self.log_snr(),
            s.log_snr()
        );
        delta
    }

    /// λ_t − λ_s, of either sign.
    pub(crate) fn log_snr_over(self, s: Self) -> f64 {
        self.log_snr() - s.log_snr()
    }
}
