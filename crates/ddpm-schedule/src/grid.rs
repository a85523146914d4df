//! Grids: the published rules for the levels that a reverse process visits.

mod error;
mod name;
mod options;
mod span;

pub use error::GridError;
pub use options::{Fractional, GridOptions};
use span::{Span, even, mix};

use crate::parameter::{check, positive};
use crate::{Levels, NoiseLevel, Process, quantile};

/// The fraction of σ by which the linear half of [`Grid::LinearQuadratic`] falls.
const MOCHI_THRESHOLD: f64 = 0.025;

/// A rule that chooses n levels of a process; clean data follows the last one.
///
/// The first group chooses **times**. On a schedule they are rounded to the nearest timestep, ties
/// to even, as in NumPy; [`Fractional`] can keep them fractional. Below, t counts from 1 to T. A
/// continuous process takes equal steps of its own time, which reaches clean data at 0; a flow then
/// shifts them.
///
/// The second group chooses **σ** from the noisiest level to the least noisy one. σ is b/a, which
/// must be finite; for [`Process::Flow`] it is b/(a + b), as usual there.
///
/// A grid is parsed from its [`name`](Self::name) or its name in another library, with the usual
/// parameters.
///
/// ```
/// use ddpm_schedule::{Grid, Process};
///
/// let process = Process::edm(0.002, 80.0)?;
/// let levels = Grid::Karras { rho: 7.0 }.levels(&process, 18)?;
/// assert_eq!(levels.len(), 18);
/// assert!((levels.as_slice()[1].sigma() - 57.586).abs() < 1e-3);
/// assert_eq!("use_lu_lambdas".parse::<Grid>()?, Grid::LogSnr);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
#[doc(alias = "timestep_spacing")]
pub enum Grid {
    /// t = round(T − i·T/n) for i < n: starts at T (Lin et al. 2023, §3.3).
    #[doc(alias = "sgm_uniform")]
    Trailing,
    /// t−1 = i·⌊T/n⌋ + offset for i < n: omits the noisiest times (Song et al. 2020, DDIM; offset 1
    /// in Stable Diffusion).
    #[doc(alias = "steps_offset")]
    Leading {
        /// Added to each time.
        offset: u32,
    },
    /// t−1 = round(i·(T−1)/(n−1)) for i < n: starts at T and ends at 1; with n = 1 it is T.
    #[doc(alias = "normal")]
    Linspace,
    /// t−1 = round((T−1)·(i/(n−1))²) for i < n, each at least one more than the one before: dense
    /// where the noise is low (Song et al. 2020, app. D.2). It starts at T, as in the paper; the
    /// paper's code starts at 0.8·T.
    Quadratic,
    /// t−1 = round(q·(T−1)), where q is the quantile of Beta(α, β) at 1 − i/n for i < n (Lee et al.
    /// 2024; ComfyUI). Duplicate times are dropped, so there can be fewer than n.
    BetaTime {
        /// α > 0.
        alpha: f64,
        /// β > 0.
        beta: f64,
    },
    /// n of the `original` times T, T − k, …, k = ⌊T/original⌋, at which a consistency model was
    /// distilled (Luo et al. 2023, LCM).
    #[doc(alias = "original_inference_steps")]
    Lcm {
        /// The number of times to choose from, at least n.
        original: u32,
    },
    /// Network times, in decreasing order.
    Times(Vec<f64>),
    /// σ^(1/ρ) in equal steps (Karras et al. 2022, eq. 5: ρ = 7).
    #[doc(alias = "use_karras_sigmas")]
    Karras {
        /// ρ > 0.
        rho: f64,
    },
    /// ln σ in equal steps: Karras' rule for ρ → ∞.
    #[doc(alias = "use_exponential_sigmas")]
    Exponential,
    /// ln σ at the fraction (1 − i/(n−1))^ρ from the least to the most noise (Crowson 2022,
    /// k-diffusion).
    Polyexponential {
        /// ρ > 0; 1 is [`Exponential`](Self::Exponential).
        rho: f64,
    },
    /// σ at the fraction from the least to the most noise that is a quantile of Beta(α, β)
    /// (diffusers).
    #[doc(alias = "use_beta_sigmas")]
    BetaSigma {
        /// α > 0.
        alpha: f64,
        /// β > 0.
        beta: f64,
    },
    /// arctan σ in equal steps, the optimum for Gaussian data of unit variance (Sabour et al. 2024,
    /// "Align Your Steps", §3).
    KlOptimal,
    /// σ falls linearly by 2.5 % over the first half of the steps, then to 0 along a parabola that
    /// continues the line (Mochi, Genmo 2024).
    LinearQuadratic,
    /// λ = ln a²/b² in equal steps (Lu et al. 2022). It equals [`Exponential`](Self::Exponential)
    /// except on a flow, where its start must have some signal.
    #[doc(alias = "use_lu_lambdas")]
    LogSnr,
    /// The given σ, in decreasing order.
    Sigmas(Vec<f64>),
}

impl Grid {
    /// `n` levels of `process`, then clean data.
    ///
    /// # Errors
    ///
    /// See [`GridError`]: for example if n = 0, if n exceeds the number of timesteps, or if σ is
    /// infinite.
    pub fn levels(&self, process: &Process, n: usize) -> Result<Levels, GridError> {
        self.levels_with(process, n, GridOptions::default())
    }

    /// `n` levels of `process`, then the end.
    ///
    /// # Errors
    ///
    /// As [`levels`](Self::levels), and if the start is not noisier than the end.
    /// [`Levels::inverse`] makes levels from data to noise.
    pub fn levels_with(
        &self,
        process: &Process,
        n: usize,
        options: GridOptions,
    ) -> Result<Levels, GridError> {
        let span = Span::new(process, n, options)?;
        self.check(n)?;
        let mut levels = self.points(&span)?;
        let may_start_later = matches!(
            self,
            Self::Leading { .. } | Self::Lcm { .. } | Self::Times(_) | Self::Sigmas(_)
        );
        if options.start.is_some() || !may_start_later {
            levels[0] = span.start;
        }
        Levels::new(levels.into_iter().chain([span.ending]))
    }

    /// Checks the ranges of the parameters, and that a list has `n` entries.
    fn check(&self, n: usize) -> Result<(), GridError> {
        match *self {
            Self::Karras { rho } | Self::Polyexponential { rho } => {
                positive("rho", rho)?;
            }
            Self::BetaTime { alpha, beta } | Self::BetaSigma { alpha, beta } => {
                for (name, value) in [("alpha", alpha), ("beta", beta)] {
                    check(name, value, "(0, 10⁴]", value > 0.0 && value <= 1e4)?;
                }
            }
            Self::Lcm { original } => {
                let enough = original as usize >= n;
                check("original", f64::from(original), "[n, ∞)", enough)?;
            }
            Self::Times(ref list) | Self::Sigmas(ref list) if list.len() != n => {
                let listed = list.len();
                return Err(GridError::Count { n, listed });
            }
            _ => {}
        }
        Ok(())
    }

    /// The levels before the end: of the first group here, of the second in
    /// [`sigmas`](Self::sigmas).
    fn points(&self, span: &Span) -> Result<Vec<NoiseLevel>, GridError> {
        let &Span {
            n,
            points,
            low,
            high,
            floor,
            ..
        } = span;
        match *self {
            Self::Trailing => {
                span.falling(|i| floor + span.round((high - floor) * (n - i) as f64 / n as f64))
            }
            Self::Leading { offset } => {
                let step = span.whole((high - low + span.tick()) / points as f64);
                span.rising(|j| low + f64::from(offset) + j as f64 * step)
            }
            Self::Linspace => span.rising(|j| low + span.round(even(j, points, high - low))),
            Self::Quadratic => {
                let gap = if span.rounds() { 1.0 } else { 0.0 };
                let mut previous = -gap;
                span.rising(|j| {
                    let time = span.round((high - low) * even(j, points, 1.0).powi(2));
                    previous = time.max(previous + gap);
                    low + previous
                })
            }
            Self::BetaTime { alpha, beta } => {
                let quantile = |i| quantile::beta(1.0 - i as f64 / n as f64, alpha, beta);
                let mut levels = span.falling(|i| low + span.round((high - low) * quantile(i)))?;
                levels.dedup();
                Ok(levels)
            }
            Self::Lcm { original } => {
                let original = f64::from(original);
                let step = span.whole((high - floor) / original);
                let skipped = |i| (i as f64 * (original / n as f64)).floor();
                span.falling(|i| floor + step * (original - skipped(i)))
            }
            Self::Times(ref times) => times.iter().map(|&time| span.at_time(time)).collect(),
            _ => self.sigmas(span),
        }
    }

    /// The levels of the second group, which chooses σ.
    fn sigmas(&self, span: &Span) -> Result<Vec<NoiseLevel>, GridError> {
        match *self {
            Self::Karras { rho } => span.sigmas(|r, max, min| {
                mix(r, max.powf(rho.recip()), min.powf(rho.recip())).powf(rho)
            }),
            Self::Exponential => span.sigmas(|r, max, min| mix(r, max.ln(), min.ln()).exp()),
            Self::Polyexponential { rho } => {
                span.sigmas(|r, max, min| mix((1.0 - r).powf(rho), min.ln(), max.ln()).exp())
            }
            Self::BetaSigma { alpha, beta } => {
                span.sigmas(|r, max, min| mix(quantile::beta(1.0 - r, alpha, beta), min, max))
            }
            Self::KlOptimal => span.sigmas(|r, max, min| mix(r, max.atan(), min.atan()).tan()),
            Self::LinearQuadratic => {
                let (max, min) = (span.sigma(span.start)?, span.sigma(span.ending)?);
                let sigma = |i| mix(fallen(i, span.n), max, min);
                (0..span.n).map(|i| span.at_sigma(sigma(i))).collect()
            }
            Self::LogSnr => {
                let [from, to] = [span.start, span.last].map(NoiseLevel::log_snr);
                if from == f64::NEG_INFINITY {
                    return Err(GridError::NoSignal);
                }
                span.inner(|r| span.at_log_snr(mix(r, from, to)))
            }
            Self::Sigmas(ref sigmas) => {
                let level = |&sigma: &f64| span.at_sigma(sigma);
                sigmas.iter().map(level).collect()
            }
            _ => unreachable!("a grid of times"),
        }
    }
}

/// The fraction of σ by which it has fallen before step `i` of `n` (Mochi): 0.025·i/m up to m =
/// ⌊n/2⌋, then the parabola that continues with the same slope and reaches 1 at n.
fn fallen(i: usize, n: usize) -> f64 {
    let m = n / 2;
    let slope = MOCHI_THRESHOLD / m.max(1) as f64;
    let line = slope * i as f64;
    if i <= m {
        return line;
    }
    let at_end = slope * n as f64;
    let past = (i - m) as f64 / (n - m) as f64;
    line + (1.0 - at_end) * past * past
}
