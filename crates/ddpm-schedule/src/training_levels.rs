//! The distribution of the levels that training visits, as a quantile function.

use crate::parameter::{check, positive};
use crate::{NoiseLevel, ParameterError, Process, quantile};

/// The law by which training draws noise levels.
///
/// [`on`](Self::on) makes it the [`LevelDistribution`] of a process.
/// [`LossHistory`](crate::LossHistory) draws times by their loss instead.
///
/// ```
/// use ddpm_schedule::{NoiseSchedule, Process, TrainingLevels};
///
/// let process = Process::from(NoiseSchedule::linear(1000, 1e-4, 0.02)?);
/// let levels = TrainingLevels::Uniform.on(&process)?;
/// assert_eq!(process.time(levels.quantile(0.25)), 250.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum TrainingLevels {
    /// The network time before a flow's shift is uniform between the ends: every timestep of a
    /// schedule is equally likely (Ho et al. 2020), and so is every ln σ of EDM.
    Uniform,
    /// σ^(1/ρ) is uniform between the ends, where σ is b/a, or b/(a + b) for a flow. ρ = 1 is
    /// uniform in σ, and ρ = 7 has the density of EDM's sampling levels.
    UniformSigma {
        /// ρ > 0.
        rho: f64,
    },
    /// ln σ ~ N(mean, std²), σ = b/a (Karras et al. 2022, table 1: P_mean = −1.2, P_std = 1.2).
    #[doc(alias = "P_mean")]
    #[doc(alias = "P_std")]
    LogNormalSigma {
        /// The mean of ln σ.
        mean: f64,
        /// Its standard deviation, above 0.
        std: f64,
    },
    /// ln(t/(1−t)) ~ N(mean, std²), where t ∈ (0, 1) is the relative network time before a flow's
    /// shift (Esser et al. 2024, eq. 19: mean 0, std 1).
    #[doc(alias = "logit_mean")]
    #[doc(alias = "logit_std")]
    LogitNormalTime {
        /// The mean of the logit.
        mean: f64,
        /// Its standard deviation, above 0.
        std: f64,
    },
}

/// The distribution of the levels of a process in training.
///
/// ```
/// use ddpm_schedule::{Process, TrainingLevels, stratified};
///
/// let process = Process::edm(0.002, 80.0)?;
/// let law = TrainingLevels::LogNormalSigma { mean: -1.2, std: 1.2 };
/// let levels = law.on(&process)?;
/// for u in stratified(0.37, 64) {
///     let sigma = levels.quantile(u).sigma(); // one of a batch of 64
///     assert!((0.002..=80.0).contains(&sigma));
/// }
/// # Ok::<(), ddpm_schedule::ParameterError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct LevelDistribution {
    process: Process,
    law: TrainingLevels,
}

impl TrainingLevels {
    /// The distribution of this law on the levels of `process`.
    ///
    /// # Errors
    ///
    /// If a parameter is out of its range, or if [`UniformSigma`](Self::UniformSigma) is used on a
    /// process whose noisiest σ is infinite.
    pub fn on(self, process: &Process) -> Result<LevelDistribution, ParameterError> {
        match self {
            Self::Uniform => {}
            Self::UniformSigma { rho } => {
                positive("rho", rho)?;
                positive("σ of the noisiest level", process.sigma(process.ends().0))?;
            }
            Self::LogNormalSigma { mean, std } | Self::LogitNormalTime { mean, std } => {
                check("mean", mean, "(−∞, ∞)", mean.is_finite())?;
                positive("std", std)?;
            }
        }
        Ok(LevelDistribution {
            process: process.clone(),
            law: self,
        })
    }
}

impl LevelDistribution {
    /// The `u`-quantile: a fraction `u` of all draws is less noisy. For u uniform in [0, 1) it is a
    /// draw.
    ///
    /// A level beyond an end of the process becomes that end. A level between two timesteps of a
    /// schedule becomes the nearer one.
    pub fn quantile(&self, u: f64) -> NoiseLevel {
        let u = u.clamp(0.0, 1.0);
        let (noisiest, least) = self.process.ends();
        let time = |level| self.process.unshifted(level);
        match self.law {
            TrainingLevels::Uniform => match self.process {
                Process::Discrete(_) => self.at_share(u),
                _ => self.at_unshifted((1.0 - u) * time(least) + u * time(noisiest)),
            },
            TrainingLevels::UniformSigma { rho } => {
                let root = |level| self.process.sigma(level).powf(rho.recip());
                let sigma = ((1.0 - u) * root(least) + u * root(noisiest)).powf(rho);
                let level = self.process.at_sigma(sigma);
                let end = if u < 0.5 { least } else { noisiest };
                self.at_log_snr(level.unwrap_or(end).log_snr())
            }
            TrainingLevels::LogNormalSigma { mean, std } => {
                self.at_log_snr(-2.0 * (mean + std * quantile::normal(u)))
            }
            TrainingLevels::LogitNormalTime { mean, std } => {
                let logit = mean + std * quantile::normal(u);
                self.at_share((1.0 + (-logit).exp()).recip())
            }
        }
    }

    /// The level at a relative time: t = 1 + ⌊T·share⌋ of a schedule.
    fn at_share(&self, share: f64) -> NoiseLevel {
        let (noisiest, least) = self.process.ends();
        let [low, high] = [least, noisiest].map(|level| self.process.unshifted(level));
        self.at_unshifted(match self.process {
            Process::Discrete(_) => ((high + 1.0) * share).floor(),
            Process::Edm { .. } => (1.0 - share) * low + share * high,
            _ => high * share,
        })
    }

    /// The level at an unshifted time, or the end if it lies beyond one.
    fn at_unshifted(&self, time: f64) -> NoiseLevel {
        let (noisiest, least) = self.process.ends();
        if time <= self.process.unshifted(least) {
            return least;
        }
        let level = self.process.level(self.process.shifted(time));
        level
            .filter(|_| time < self.process.unshifted(noisiest))
            .unwrap_or(noisiest)
    }

    /// The level of log-SNR λ; on a schedule, that of the nearest timestep.
    fn at_log_snr(&self, lambda: f64) -> NoiseLevel {
        let (noisiest, least) = self.process.ends();
        let level = if lambda <= noisiest.log_snr() {
            noisiest
        } else {
            let level = self.process.at_log_snr(lambda.min(least.log_snr()));
            level.unwrap_or(least)
        };
        match self.process {
            Process::Discrete(_) => self.at_unshifted(self.process.time(level).round_ties_even()),
            _ => level,
        }
    }
}
