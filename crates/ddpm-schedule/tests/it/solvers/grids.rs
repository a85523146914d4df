//! The levels of runs in other libraries, and the network times there.

use ddpm_schedule::{NoiseLevel, NoiseSchedule};

use super::whole;

/// The levels of a run, the last of which is the end, and the network time of each but the end.
pub(crate) struct Grid {
    pub(crate) levels: Vec<NoiseLevel>,
    times: Vec<f64>,
    /// σ of every timestep, from the least noisy on.
    sigmas: Vec<f64>,
}

/// `n` numbers from `start` to `stop`.
pub(crate) fn linspace(start: f64, stop: f64, n: usize) -> Vec<f64> {
    let step = (stop - start) / (n - 1) as f64;
    let value = |i: usize| {
        if i + 1 == n {
            stop
        } else {
            start + i as f64 * step
        }
    };
    (0..n).map(value).collect()
}

/// The level of a process that preserves variance.
pub(crate) fn vp(sigma: f64) -> NoiseLevel {
    let a = 1.0 / sigma.hypot(1.0);
    NoiseLevel::new(a, sigma * a).unwrap()
}

/// A level with a = 1.
pub(crate) fn ve(sigma: f64) -> NoiseLevel {
    NoiseLevel::variance_exploding(sigma).unwrap()
}

/// T = 1100, β from 10⁻⁴ to 0.02.
pub(crate) fn lin11() -> NoiseSchedule {
    NoiseSchedule::linear(1100, 1e-4, 0.02).unwrap()
}

/// σ of every timestep.
pub(crate) fn sigmas(schedule: &NoiseSchedule) -> Vec<f64> {
    schedule.iter().map(|t| schedule.level(t).sigma()).collect()
}

/// From `max` to `min`, linear in σ^(1/7) (Karras et al. 2022, eq. 5).
pub(crate) fn karras(max: f64, min: f64, n: usize) -> Vec<f64> {
    let root = |x: f64| x.powf(1.0 / 7.0);
    let roots = linspace(root(max), root(min), n);
    roots.into_iter().map(|x| x.powi(7)).collect()
}

/// From `max` to `min`, linear in ln σ.
pub(crate) fn exponential(max: f64, min: f64, n: usize) -> Vec<f64> {
    let logs = linspace(max.ln(), min.ln(), n);
    logs.into_iter().map(f64::exp).collect()
}

/// From `max` to `min` by the quantiles of the Beta distribution with α = β = 0.6.
pub(crate) fn beta(max: f64, min: f64, n: usize) -> Vec<f64> {
    let shares = linspace(1.0, 0.0, n);
    let level = |p: f64| min + quantile(p) * (max - min);
    shares.into_iter().map(level).collect()
}

/// The x at which the distribution function of Beta(0.6, 0.6) is `p`.
fn quantile(p: f64) -> f64 {
    if p > 0.5 {
        return 1.0 - quantile(1.0 - p);
    }
    // B(x; s, s) = xˢ·Σ (1−s)ₙ/n!·xⁿ/(s + n), for x ≤ ½; half of the whole is at ½.
    let s = 0.6;
    let incomplete = |x: f64| {
        let (mut term, mut sum) = (1.0, 0.0);
        for n in 0..80 {
            let n = f64::from(n);
            sum += term / (s + n);
            term *= (1.0 - s + n) / (n + 1.0) * x;
        }
        x.powf(s) * sum
    };
    let wanted = 2.0 * p * incomplete(0.5);
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if incomplete(middle) < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The time of σ, linear in ln σ between timesteps 0, 1, ….
pub(crate) fn time_of(sigmas: &[f64], sigma: f64) -> f64 {
    let above = sigmas.partition_point(|&s| s <= sigma);
    let low = above.clamp(1, sigmas.len() - 1) - 1;
    let [below, above] = [low, low + 1].map(|i| sigmas[i].ln());
    let w = (sigma.ln() - below) / (above - below);
    low as f64 + w.clamp(0.0, 1.0)
}

impl Grid {
    /// Timesteps, whole or not, with σ linear between those of `sigmas`, and clean data.
    pub(crate) fn at_times(sigmas: Vec<f64>, times: Vec<f64>) -> Self {
        let sigma = |&time: &f64| {
            let low = (whole(time) as usize).min(sigmas.len() - 2);
            let w = time - low as f64;
            (1.0 - w) * sigmas[low] + w * sigmas[low + 1]
        };
        let levels = times.iter().map(|time| vp(sigma(time)));
        let levels = levels.chain([NoiseLevel::CLEAN]).collect();
        Self {
            levels,
            times,
            sigmas,
        }
    }

    /// Given σ with their times, and clean data.
    pub(crate) fn at_sigmas(schedule: &NoiseSchedule, along: Vec<f64>) -> Self {
        let sigmas = sigmas(schedule);
        let times = along.iter().map(|&s| time_of(&sigmas, s)).collect();
        let levels = along.into_iter().map(vp);
        let levels = levels.chain([NoiseLevel::CLEAN]).collect();
        Self {
            levels,
            times,
            sigmas,
        }
    }

    /// Ten steps from σ_T, equal in time.
    pub(crate) fn linspace(schedule: &NoiseSchedule) -> Self {
        let last = f64::from(schedule.timesteps() - 1);
        Self::at_times(sigmas(schedule), linspace(last, 0.0, 10))
    }

    /// Ten steps with σ by one of the rules above.
    pub(crate) fn by(schedule: &NoiseSchedule, rule: fn(f64, f64, usize) -> Vec<f64>) -> Self {
        let all = sigmas(schedule);
        Self::at_sigmas(schedule, rule(all[all.len() - 1], all[0], 10))
    }

    /// Given levels, with the network time of each.
    pub(crate) fn told(levels: Vec<NoiseLevel>, times: Vec<f64>) -> Self {
        let sigmas = vec![1.0, 2.0];
        Self {
            levels,
            times,
            sigmas,
        }
    }

    /// The network time of a level: that of the grid, or else by ln σ.
    pub(crate) fn clock(&self) -> impl Fn(NoiseLevel) -> f64 + '_ {
        move |at| {
            let near = |level: &NoiseLevel| {
                *level == at || (level.sigma() / at.sigma() - 1.0).abs() < 1e-11
            };
            let found = self.levels.iter().position(near);
            match found.and_then(|i| self.times.get(i)) {
                Some(&time) => time,
                None => time_of(&self.sigmas, at.sigma()),
            }
        }
    }
}
