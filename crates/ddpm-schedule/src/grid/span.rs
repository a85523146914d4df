//! The range of levels that a grid covers, and the levels of its times and σ.

use super::{Fractional, GridError, GridOptions};
use crate::{NoiseLevel, Process};

/// The process, n and the options of a grid, resolved.
pub(super) struct Span<'a> {
    process: &'a Process,
    fractional: Fractional,
    /// The number of steps.
    pub(super) n: usize,
    /// The number of levels from `start` to `last`: n, or n + 1 where `last` is the end.
    pub(super) points: usize,
    pub(super) start: NoiseLevel,
    pub(super) last: NoiseLevel,
    /// The level after the last step.
    pub(super) ending: NoiseLevel,
    /// The times of `last` and of `start`, before a flow's shift.
    pub(super) low: f64,
    pub(super) high: f64,
    /// The time of `ending`. Clean data comes one before the first timestep of a schedule and is at
    /// 0 in a continuous process. For EDM it would be −∞; the time of the last level is used
    /// instead.
    pub(super) floor: f64,
}

impl<'a> Span<'a> {
    pub(super) fn new(
        process: &'a Process,
        n: usize,
        options: GridOptions,
    ) -> Result<Self, GridError> {
        if n == 0 {
            return Err(GridError::NoSteps);
        }
        let (noisiest, least) = process.ends();
        let start = options.start.unwrap_or(noisiest);
        let last = options.end.unwrap_or(least);
        let ending = options.end.unwrap_or(NoiseLevel::CLEAN);
        if start.log_snr() >= ending.log_snr() {
            let (start, end) = (start.log_snr(), ending.log_snr());
            return Err(GridError::Backwards { start, end });
        }
        let mut span = Self {
            process,
            fractional: options.fractional,
            n,
            points: n + usize::from(options.end.is_some()),
            start,
            last,
            ending,
            low: 0.0,
            high: 0.0,
            floor: 0.0,
        };
        span.low = span.round(process.unshifted(last));
        span.high = span.round(process.unshifted(start));
        span.floor = match process {
            _ if ending != NoiseLevel::CLEAN => span.low,
            Process::Discrete(_) => -1.0,
            Process::Edm { .. } => span.low,
            _ => 0.0,
        };
        Ok(span)
    }

    /// Whether times are rounded to timesteps.
    pub(super) fn rounds(&self) -> bool {
        matches!(self.process, Process::Discrete(_)) && self.fractional == Fractional::Round
    }

    /// The nearest timestep, ties to even, if [`rounds`](Self::rounds).
    pub(super) fn round(&self, time: f64) -> f64 {
        if self.rounds() {
            time.round_ties_even()
        } else {
            time
        }
    }

    /// ⌊step⌋ for the steps of a schedule, which are whole even if its times are not.
    pub(super) fn whole(&self, step: f64) -> f64 {
        if self.tick() > 0.0 {
            step.floor()
        } else {
            step
        }
    }

    /// The difference of consecutive timesteps; 0 in a continuous process.
    pub(super) fn tick(&self) -> f64 {
        f64::from(u8::from(matches!(self.process, Process::Discrete(_))))
    }

    /// The levels at the unshifted times `time(0)`, …, `time(n−1)`.
    pub(super) fn falling(
        &self,
        mut time: impl FnMut(usize) -> f64,
    ) -> Result<Vec<NoiseLevel>, GridError> {
        if let (Process::Discrete(schedule), true) = (self.process, self.rounds())
            && self.n > schedule.timesteps() as usize
        {
            let (n, timesteps) = (self.n, schedule.timesteps());
            return Err(GridError::Length { n, timesteps });
        }
        let level = |i| {
            let time = time(i);
            // Rounding may put a sum slightly beyond the noisiest time.
            let exact = (time - self.high).abs() > 1e-9;
            let time = if exact { time } else { self.high };
            self.at_time(self.process.shifted(time))
        };
        (0..self.n).map(level).collect()
    }

    /// The levels at unshifted times given in increasing order, without that of the end.
    pub(super) fn rising(
        &self,
        time: impl FnMut(usize) -> f64,
    ) -> Result<Vec<NoiseLevel>, GridError> {
        let times: Vec<_> = (0..self.points).map(time).collect();
        self.falling(|i| times[self.points - 1 - i])
    }

    /// The levels at equally spaced fractions from `start` to `last`. Both ends are exact: they
    /// avoid the rounding of a function and its inverse.
    pub(super) fn inner(
        &self,
        level: impl Fn(f64) -> Result<NoiseLevel, GridError>,
    ) -> Result<Vec<NoiseLevel>, GridError> {
        let point = |i| match i {
            0 => Ok(self.start),
            _ if i + 1 == self.points => Ok(self.last),
            _ => level(even(i, self.points, 1.0)),
        };
        (0..self.n).map(point).collect()
    }

    /// The levels with σ = `sigma(fraction, σ of the start, σ of the last)`.
    pub(super) fn sigmas(
        &self,
        sigma: impl Fn(f64, f64, f64) -> f64,
    ) -> Result<Vec<NoiseLevel>, GridError> {
        let (max, min) = (self.sigma(self.start)?, self.sigma(self.last)?);
        self.inner(|r| self.at_sigma(sigma(r, max, min)))
    }

    /// σ of a level, which must be finite.
    pub(super) fn sigma(&self, level: NoiseLevel) -> Result<f64, GridError> {
        let sigma = self.process.sigma(level);
        let finite = sigma.is_finite().then_some(sigma);
        finite.ok_or(GridError::NoSignal)
    }

    /// The level of σ, or an end of the process whose σ differs only by rounding.
    pub(super) fn at_sigma(&self, sigma: f64) -> Result<NoiseLevel, GridError> {
        let (noisiest, least) = self.process.ends();
        let missed = |end: &NoiseLevel| (self.process.sigma(*end) / sigma - 1.0).abs() < 1e-12;
        let level = self.process.at_sigma(sigma);
        let level = level.or_else(|| [noisiest, least].into_iter().find(missed));
        level.ok_or(GridError::Sigma { sigma })
    }

    pub(super) fn at_log_snr(&self, log_snr: f64) -> Result<NoiseLevel, GridError> {
        let level = self.process.at_log_snr(log_snr);
        let sigma = (-0.5 * log_snr).exp();
        level.ok_or(GridError::Sigma { sigma })
    }

    /// The level at a network time.
    pub(super) fn at_time(&self, time: f64) -> Result<NoiseLevel, GridError> {
        let exact = self.process.level(time);
        let level = match (self.process, self.fractional) {
            (Process::Discrete(_), Fractional::Sigma) if time.fract() != 0.0 => {
                let at = |time| self.process.level(time).map(NoiseLevel::sigma);
                let sigmas = at(time.floor()).zip(at(time.ceil()));
                let sigma = sigmas.map(|(low, high)| mix(time.fract(), low, high));
                sigma.and_then(|sigma| self.process.at_sigma(sigma))
            }
            _ => exact,
        };
        level.ok_or(GridError::Time { time })
    }
}

/// The place i of `points` from 0 to `span` in equal steps, rounded as NumPy's linspace rounds,
/// for it decides between two times equally near. Of one point it is the last, the noisiest.
pub(super) fn even(i: usize, points: usize, span: f64) -> f64 {
    if points == 1 {
        span
    } else {
        i as f64 * (span / (points - 1) as f64)
    }
}

/// (1−r)·`from` + r·`to`.
pub(super) fn mix(r: f64, from: f64, to: f64) -> f64 {
    (1.0 - r) * from + r * to
}
