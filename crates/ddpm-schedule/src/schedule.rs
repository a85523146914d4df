//! The noise levels of t = 1..=T, and the published ways to choose them.

use std::f64::consts::FRAC_PI_2;
use std::num::NonZeroU32;

use thiserror::Error;

use crate::{LevelError, NoiseLevel};

/// The largest β of the schedules that would otherwise end at β_T = 1
/// (Nichol & Dhariwal 2021, §3.2).
const MAX_BETA: f64 = 0.999;

/// The largest |a² + b² − 1| at which a schedule counts as variance preserving.
const VARIANCE_TOLERANCE: f64 = 1e-9;

/// A time t in 1..=T of a [`NoiseSchedule`]. Only schedules create timesteps. t = 0 is the data and
/// has none.
///
/// ```
/// use ddpm_schedule::NoiseSchedule;
///
/// let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02)?;
/// let t = schedule.timestep(500).unwrap();
/// assert_eq!((t.get(), t.network_input()), (500, 499.0));
/// assert_eq!(schedule.timestep(1001), None);
/// # Ok::<(), ddpm_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestep(NonZeroU32);

impl Timestep {
    /// t, counted from 1 as in the papers.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// t−1, the time that the network of every published checkpoint is given.
    pub fn network_input(self) -> f32 {
        (self.get() - 1) as f32
    }

    pub(crate) fn index(self) -> usize {
        self.get() as usize
    }
}

/// The noise levels of t = 1..=T, each strictly noisier than the previous one and than clean data.
///
/// ```
/// use ddpm_schedule::NoiseSchedule;
///
/// let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02)?;
/// assert_eq!(schedule.timesteps(), 1000);
/// assert!((schedule.beta(schedule.first()) - 1e-4).abs() < 1e-15);
/// assert!(schedule.level(schedule.last()).alpha_bar() < 1e-4);
///
/// let zero_snr = schedule.rescale_zero_terminal_snr()?;
/// assert_eq!(zero_snr.level(zero_snr.last()).alpha_bar(), 0.0);
/// # Ok::<(), ddpm_schedule::ScheduleError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct NoiseSchedule {
    /// Indexed by t, with `CLEAN` at 0.
    levels: Vec<NoiseLevel>,
    last: Timestep,
}

/// Invalid arguments of a [`NoiseSchedule`].
///
/// ```
/// use ddpm_schedule::NoiseSchedule;
///
/// let error = NoiseSchedule::from_betas([0.1, 1.5]).unwrap_err();
/// assert_eq!(error.to_string(), "β₂ = 1.5 is outside (0, 1)");
/// ```
#[derive(Clone, PartialEq, Debug, Error)]
pub enum ScheduleError {
    /// T is 0 or above `u32::MAX`.
    #[error("a schedule has 1 to {max} timesteps, not {0}", max = u32::MAX)]
    Length(usize),
    /// A β outside (0, 1).
    #[error("β{} = {beta} is outside (0, 1)", subscript(*t))]
    Beta {
        /// The time, from 1.
        t: usize,
        /// The value refused.
        beta: f64,
    },
    /// A level that is not noisier than that of t−1, where t = 0 is clean data.
    #[error(
        "the log-SNR must fall at every step, but at t = {t} it goes from {previous} to {log_snr}"
    )]
    NotFalling {
        /// The time, from 1.
        t: usize,
        /// The log-SNR of t−1.
        previous: f64,
        /// The log-SNR of t.
        log_snr: f64,
    },
    /// A parameter of a named schedule that is out of range.
    #[error("{name} = {value} is outside {range}")]
    Parameter {
        /// The parameter's name in the constructor.
        name: &'static str,
        /// The value refused.
        value: f64,
        /// The values that are allowed.
        range: &'static str,
    },
    /// An invalid level.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// Zero terminal SNR requires a variance preserving schedule.
    #[error(
        "only a variance preserving schedule can be rescaled, and at t = {t} a² + b² = {variance}"
    )]
    NotVariancePreserving {
        /// The first such time.
        t: u32,
        /// a² + b² there.
        variance: f64,
    },
    /// Zero terminal SNR requires T ≥ 2: it keeps ᾱ₁ and sets ᾱ_T to zero.
    #[error("rescaling keeps ᾱ₁ and sets ᾱ_T to zero, which requires T ≥ 2 timesteps, not 1")]
    NothingToRescale,
}

impl NoiseSchedule {
    /// The schedule with the given levels of t = 1, 2, …, T.
    ///
    /// # Errors
    ///
    /// Unless there are 1 to `u32::MAX` levels of strictly falling log-SNR, the
    /// first of them noisier than clean data.
    pub fn from_levels(
        levels: impl IntoIterator<Item = NoiseLevel>,
    ) -> Result<Self, ScheduleError> {
        let levels: Vec<_> = std::iter::once(NoiseLevel::CLEAN).chain(levels).collect();
        for (t, pair) in (1..).zip(levels.windows(2)) {
            let (previous, log_snr) = (pair[0].log_snr(), pair[1].log_snr());
            if log_snr >= previous {
                return Err(ScheduleError::NotFalling {
                    t,
                    previous,
                    log_snr,
                });
            }
        }
        let timesteps = levels.len() - 1;
        let last = u32::try_from(timesteps).ok().and_then(NonZeroU32::new);
        let last = Timestep(last.ok_or(ScheduleError::Length(timesteps))?);
        Ok(Self { levels, last })
    }

    /// The variance preserving process x_t = √(1−β_t)·x_{t−1} + √β_t·ε (Ho et al. 2020, eq. 2) with
    /// the given β of t = 1, 2, …, T.
    ///
    /// # Errors
    ///
    /// Unless there is at least one β and each is in (0, 1), and large enough to
    /// move the log-SNR by more than its rounding.
    pub fn from_betas(betas: impl IntoIterator<Item = f64>) -> Result<Self, ScheduleError> {
        // ln ᾱ_t = Σ ln(1−β) keeps 1−ᾱ where ᾱ itself would round to 1.
        let mut ln_alpha_bar = 0.0;
        let mut levels = Vec::new();
        for (t, beta) in (1..).zip(betas) {
            if !(beta > 0.0 && beta < 1.0) {
                return Err(ScheduleError::Beta { t, beta });
            }
            ln_alpha_bar += (-beta).ln_1p();
            levels.push(NoiseLevel::from_ln_alpha_bar(ln_alpha_bar)?);
        }
        Self::from_levels(levels)
    }

    /// β from `beta_start` at t = 1 to `beta_end` at T in equal steps
    /// (Ho et al. 2020: T = 1000, 10⁻⁴ to 0.02). With T = 1, β₁ = `beta_start`.
    ///
    /// # Errors
    ///
    /// Unless T ≥ 1 and both ends are in (0, 1).
    pub fn linear(timesteps: u32, beta_start: f64, beta_end: f64) -> Result<Self, ScheduleError> {
        Self::check_ends(beta_start, beta_end)?;
        Self::from_betas(linspace(timesteps, beta_start, beta_end))
    }

    /// √β in equal steps from √`beta_start` to √`beta_end`
    /// (Rombach et al. 2022: T = 1000, 0.00085 to 0.012). With T = 1,
    /// β₁ = `beta_start`.
    ///
    /// # Errors
    ///
    /// Unless T ≥ 1 and both ends are in (0, 1).
    pub fn scaled_linear(
        timesteps: u32,
        beta_start: f64,
        beta_end: f64,
    ) -> Result<Self, ScheduleError> {
        Self::check_ends(beta_start, beta_end)?;
        let roots = linspace(timesteps, beta_start.sqrt(), beta_end.sqrt());
        Self::from_betas(roots.map(|root| root * root))
    }

    /// ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s)·π/2), with β ≤ 0.999
    /// (Nichol & Dhariwal 2021, eq. 17: s = 0.008).
    ///
    /// # Errors
    ///
    /// Unless T ≥ 1 and s ≥ 0 is finite.
    pub fn cosine(timesteps: u32, s: f64) -> Result<Self, ScheduleError> {
        check("s", s, "[0, ∞)", s >= 0.0 && s.is_finite())?;
        // With v the complement of the angle above, f = sin² v, and
        // sin² x − sin² y = sin(x + y)·sin(x − y) writes β_t = 1 − f(t)/f(t−1)
        // without a difference of near equals.
        let dv = FRAC_PI_2 / (f64::from(timesteps) * (1.0 + s));
        let v = |t: u32| f64::from(timesteps - t) * dv;
        Self::from_betas((1..=timesteps).map(|t| {
            let beta = (v(t - 1) + v(t)).sin() * dv.sin() / v(t - 1).sin().powi(2);
            beta.clamp(0.0, MAX_BETA)
        }))
    }

    /// ᾱ_t = (σ(e) − σ(x_t))/(σ(e) − σ(x_0)), σ the logistic function and x_t going
    /// from `start`/τ to e = `end`/τ in T equal steps, with β ≤ 0.999
    /// (Jabri et al. 2022; −3, 3, τ = 1).
    ///
    /// # Errors
    ///
    /// Unless T ≥ 1, `start` < `end` are finite and τ > 0. Also if τ is so small that a jump of ᾱ
    /// exceeds the precision of f64.
    pub fn sigmoid(timesteps: u32, start: f64, end: f64, tau: f64) -> Result<Self, ScheduleError> {
        check("start", start, "(−∞, ∞)", start.is_finite())?;
        check("end", end, "(start, ∞)", end > start && end.is_finite())?;
        check("tau", tau, "(0, ∞)", tau > 0.0 && tau.is_finite())?;
        // σ(x) − σ(y) = sinh((x−y)/2) / (2·cosh(x/2)·cosh(y/2)) writes
        // β_t = (σ(x_t) − σ(x_{t−1}))/(σ(e) − σ(x_{t−1})) without a difference of
        // near equals. `half` is (e − x_t)/2, exactly 0 at t = T.
        let e = end / tau;
        let dx = (end - start) / (tau * f64::from(timesteps));
        let half = |t: u32| 0.5 * f64::from(timesteps - t) * dx;
        Self::from_betas((1..=timesteps).map(|t| {
            let rise = (0.5 * dx).sinh() / (0.5 * e - half(t)).cosh();
            let left = half(t - 1).sinh() / (0.5 * e).cosh();
            (rise / left).clamp(0.0, MAX_BETA)
        }))
    }

    /// The random walk x_t = x_{t−1} + σ·ε: a = 1, b = σ√t.
    ///
    /// # Errors
    ///
    /// Unless T ≥ 1 and σ > 0, with σ√T finite.
    pub fn random_walk(timesteps: u32, sigma: f64) -> Result<Self, ScheduleError> {
        check("sigma", sigma, "(0, ∞)", sigma > 0.0 && sigma.is_finite())?;
        let levels = (1..=timesteps)
            .map(|t| NoiseLevel::variance_exploding(sigma * f64::from(t).sqrt()))
            .collect::<Result<Vec<_>, _>>()?;
        Self::from_levels(levels)
    }

    /// The same schedule with √ᾱ shifted and scaled such that ᾱ_T = 0 and ᾱ₁ is kept
    /// (Lin et al. 2023, algorithm 1).
    ///
    /// # Errors
    ///
    /// Unless T ≥ 2 and a² + b² = 1 at every t, to 10⁻⁹.
    pub fn rescale_zero_terminal_snr(&self) -> Result<Self, ScheduleError> {
        for t in self.iter() {
            let variance = self.level(t).prior_std().powi(2);
            if (variance - 1.0).abs() > VARIANCE_TOLERANCE {
                let t = t.get();
                return Err(ScheduleError::NotVariancePreserving { t, variance });
            }
        }
        if self.timesteps() < 2 {
            return Err(ScheduleError::NothingToRescale);
        }
        // The paper's a₁(a_t − a_T)/(a₁ − a_T) is a₁(1 − d_t/d_T) with
        // d_t = 1 − a_t/a₁, which is exact at both ends: d₁ = 0 and d_T/d_T = 1.
        let ln_a1 = self.levels[1].ln_a;
        let d = |level: &NoiseLevel| -(level.ln_a - ln_a1).exp_m1();
        let d_last = d(&self.level(self.last));
        let levels = self.levels[1..]
            .iter()
            .map(|level| 2.0 * (ln_a1 + (-d(level) / d_last).ln_1p()))
            .map(NoiseLevel::from_ln_alpha_bar)
            .collect::<Result<Vec<_>, _>>()?;
        Self::from_levels(levels)
    }

    /// T, the number of timesteps.
    pub fn timesteps(&self) -> u32 {
        self.last.get()
    }

    /// The time `t` if it is in 1..=T.
    pub fn timestep(&self, t: u32) -> Option<Timestep> {
        NonZeroU32::new(t).map(Timestep).filter(|&t| t <= self.last)
    }

    /// t = 1, 2, …, T.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Timestep> + DoubleEndedIterator + use<> {
        (0..self.timesteps()).map(|i| Timestep(NonZeroU32::MIN.saturating_add(i)))
    }

    /// 1, the least noisy time.
    pub fn first(&self) -> Timestep {
        Timestep(NonZeroU32::MIN)
    }

    /// T, the noisiest time.
    pub fn last(&self) -> Timestep {
        self.last
    }

    /// The noise level of t.
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn level(&self, t: Timestep) -> NoiseLevel {
        self.levels[t.index()]
    }

    /// The noise level of t−1, which is [`NoiseLevel::CLEAN`] for t = 1.
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn previous(&self, t: Timestep) -> NoiseLevel {
        // The slice up to t rejects T+1, although its t−1 is in the table.
        self.levels[..=t.index()][t.index() - 1]
    }

    /// The first t whose log-SNR is at most `log_snr`.
    pub(crate) fn first_at_most(&self, log_snr: f64) -> Option<Timestep> {
        let levels = &self.levels[1..];
        let below = levels.partition_point(|level| level.log_snr() > log_snr);
        self.iter().nth(below)
    }

    /// The level of the last timestep that is less noisy than `level`, or clean data: that of t−1
    /// for the level of t. `level` need not belong to the schedule.
    pub fn before(&self, level: NoiseLevel) -> NoiseLevel {
        let lambda = level.log_snr();
        // Level 0 is clean.
        let index = self.levels.partition_point(|less| less.log_snr() > lambda);
        self.levels[index.saturating_sub(1)]
    }

    /// The timestep whose level is nearest in log-SNR; of two equally near, the less noisy.
    pub fn nearest(&self, level: NoiseLevel) -> Timestep {
        let lambda = level.log_snr();
        let index = self.levels.partition_point(|less| less.log_snr() > lambda);
        let at = |index: usize| {
            let t = u32::try_from(index).unwrap_or(u32::MAX);
            self.timestep(t.clamp(1, self.timesteps()))
                .unwrap_or(self.last)
        };
        let (below, above) = (at(index.saturating_sub(1)), at(index));
        let gap = |t: Timestep| {
            let gap = (self.level(t).log_snr() - lambda).abs();
            // Both without signal: ∞ − ∞.
            if gap.is_nan() { 0.0 } else { gap }
        };
        if gap(above) < gap(below) {
            above
        } else {
            below
        }
    }

    /// The variance of the step from t−1 to t: β_t where variance is preserved, σ²
    /// for the random walk.
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn beta(&self, t: Timestep) -> f64 {
        self.level(t).transition(self.previous(t)).variance
    }

    /// β̃_t, the variance of q(x_{t−1} | x_t, x₀) (Ho et al. 2020, eq. 7); 0 for t = 1.
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn posterior_variance(&self, t: Timestep) -> f64 {
        self.level(t).posterior(self.previous(t)).variance
    }

    fn check_ends(beta_start: f64, beta_end: f64) -> Result<(), ScheduleError> {
        for (name, beta) in [("beta_start", beta_start), ("beta_end", beta_end)] {
            check(name, beta, "(0, 1)", beta > 0.0 && beta < 1.0)?;
        }
        Ok(())
    }
}

fn check(
    name: &'static str,
    value: f64,
    range: &'static str,
    holds: bool,
) -> Result<(), ScheduleError> {
    holds
        .then_some(())
        .ok_or(ScheduleError::Parameter { name, value, range })
}

/// `n` values in equal steps from `start` to `end`, both exact. If n = 1, it is `start`.
fn linspace(n: u32, start: f64, end: f64) -> impl Iterator<Item = f64> {
    (0..n).map(move |i| {
        let share = f64::from(i) / f64::from((n - 1).max(1));
        (1.0 - share) * start + share * end
    })
}

/// `t` in subscript digits.
fn subscript(t: usize) -> String {
    t.to_string()
        .bytes()
        .filter_map(|digit| char::from_u32('₀' as u32 + u32::from(digit - b'0')))
        .collect()
}
