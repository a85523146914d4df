//! The levels of n steps, and the network's time at each.

use ddpm_schedule::{Fractional, Grid, GridError, GridOptions, Levels, NoiseLevel, Process};

/// How the levels are chosen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Way {
    /// The levels at which steps start.
    pub(super) points: Points,
    /// Where the last step leads.
    pub(super) end: End,
    /// The network's time.
    pub(super) told: Told,
    /// Whether it leads from data to noise.
    pub(super) inverse: bool,
    /// Whether a level without signal is replaced by [`faint`], of finite σ.
    pub(super) finite: bool,
}

/// ᾱ = 2⁻²⁴, which classes that divide by ᾱ use at T of a schedule that is rescaled to zero
/// terminal SNR.
pub(super) fn faint() -> NoiseLevel {
    let a = 2.0_f64.powi(-12);
    NoiseLevel::new(a, ((1.0 - a) * (1.0 + a)).sqrt()).unwrap_or(NoiseLevel::CLEAN)
}

/// The levels at which n steps start.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Points {
    /// Times of a schedule.
    Times {
        /// The grid of the times.
        grid: Grid,
        /// Whether times between two timesteps are kept, with σ interpolated.
        fractional: bool,
        /// Whether they are the first n of n+1.
        one_more: bool,
        /// The noisiest level, if it is not that of T.
        start: Option<NoiseLevel>,
    },
    /// σ from the largest to the smallest.
    Sigmas {
        /// The spacing.
        grid: Grid,
        /// The smallest and the largest σ.
        ends: [f64; 2],
        /// The meaning of σ.
        of: Sigma,
    },
    /// n+1 levels equally spaced in ln σ, the last of which is the end. The network's times are
    /// those of the given points.
    LogLinear(Box<Self>),
    /// σ of a rectified flow, equally spaced before they are shifted.
    Flow {
        /// The first and the last σ, and whether the first n of n+1 are taken.
        from: f64,
        to: f64,
        one_more: bool,
        /// s in s·u/(1 + (s−1)·u).
        shift: f64,
        /// The last σ, to which the others are rescaled.
        terminal: Option<f64>,
        /// Another rule between the first and the last.
        grid: Option<Grid>,
    },
    /// b = sin²(πu/2) of u in equal steps from 1 (IPNDM).
    Sines,
    /// Every ⌊T/n⌋-th of the T levels of a consistency model, starting from the largest σ.
    Skipped {
        /// T.
        timesteps: u32,
        /// ρ of Karras' rule.
        rho: f64,
        /// The smallest and the largest σ.
        ends: [f64; 2],
    },
}

/// The meaning of a number σ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sigma {
    /// b/a with a² + b² = 1.
    Preserving,
    /// b with a = 1.
    Exploding,
    /// b/a with a + b = 1.
    Odds,
}

/// Where the last step leads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    /// To clean data.
    Clean,
    /// To this level. Steps that start there or beyond are left out.
    Level(NoiseLevel),
    /// Nowhere: the last point is the end.
    Stay,
}

/// How the network's time at a level is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Told {
    /// The time of the process, which interpolates ln σ between timesteps.
    Fraction,
    /// The nearest whole number.
    Nearest,
    /// The whole number below.
    Below,
    /// The time obtained by interpolating σ between timesteps.
    BySigma,
}

impl Way {
    /// Levels from noise to data, all of the process itself.
    pub(super) fn new(points: Points, end: End, told: Told) -> Self {
        let (inverse, finite) = (false, false);
        Self {
            points,
            end,
            told,
            inverse,
            finite,
        }
    }

    /// The levels of `n` steps of the file, without a step that stays at its level.
    pub(super) fn levels(&self, process: &Process, n: usize) -> Result<Levels, GridError> {
        let mut levels = self.points.levels(process, n)?;
        for level in &mut levels {
            if self.finite && level.signal() == 0.0 {
                *level = faint();
            }
        }
        match self.end {
            End::Clean => levels.push(NoiseLevel::CLEAN),
            End::Level(end) => {
                levels.retain(|level| level.log_snr() < end.log_snr());
                levels.push(end);
            }
            End::Stay => {}
        }
        if self.inverse {
            levels.reverse();
        }
        Levels::new(levels)
    }

    /// The network's times at all `levels` except the last, in units of the process.
    pub(super) fn times(&self, process: &Process, levels: &Levels) -> Vec<f64> {
        let steps = &levels.as_slice()[..levels.len()];
        if let Points::LogLinear(times) = &self.points
            && let Ok(points) = times.levels(process, steps.len())
        {
            return points.iter().map(|&at| by_sigma(process, at)).collect();
        }
        let noisiest = process.ends().0;
        let time = |&at: &NoiseLevel| {
            let replaced = self.finite && noisiest.signal() == 0.0 && at == faint();
            self.told
                .time(process, if replaced { noisiest } else { at })
        };
        steps.iter().map(time).collect()
    }
}

impl Told {
    pub(super) fn time(self, process: &Process, at: NoiseLevel) -> f64 {
        let time = process.time(at);
        match self {
            Self::Fraction => time,
            Self::Nearest => time.round_ties_even(),
            // Rounding errors may make a whole time slightly smaller.
            Self::Below => (time + 1e-9).floor(),
            Self::BySigma => by_sigma(process, at),
        }
    }
}

/// The time obtained by interpolating σ between two timesteps.
fn by_sigma(process: &Process, at: NoiseLevel) -> f64 {
    let time = process.time(at);
    let low = time.floor();
    let sigma = |time| process.level(time).map(NoiseLevel::sigma);
    match (sigma(low), sigma(low + 1.0)) {
        (Some(below), Some(above)) if time > low && above.is_finite() => {
            low + (at.sigma() - below) / (above - below)
        }
        _ => time,
    }
}

impl Points {
    fn levels(&self, process: &Process, n: usize) -> Result<Vec<NoiseLevel>, GridError> {
        if n == 0 {
            return Err(GridError::NoSteps);
        }
        match self {
            Self::Times {
                grid,
                fractional,
                one_more,
                start,
            } => {
                let options = GridOptions {
                    start: *start,
                    end: one_more.then(|| process.ends().1),
                    fractional: if *fractional {
                        Fractional::Sigma
                    } else {
                        Fractional::Round
                    },
                };
                let levels = grid.levels_with(process, n, options)?;
                Ok(levels.as_slice()[..levels.len()].to_vec())
            }
            Self::Sigmas { grid, ends, of } => {
                let sigmas = sigmas(grid, *ends, n)?;
                sigmas.iter().map(|&s| of.level(process, s)).collect()
            }
            Self::LogLinear(_) => {
                let (noisiest, least) = process.ends();
                let ends = [least, noisiest].map(NoiseLevel::sigma);
                let sigmas = sigmas(&Grid::Exponential, ends, n + 1)?;
                let level = |&sigma: &f64| Sigma::Preserving.level(process, sigma);
                sigmas.iter().map(level).collect()
            }
            Self::Flow { .. } => self.flow(n),
            Self::Sines => (0..n).map(|i| sine(1.0 - i as f64 / n as f64)).collect(),
            Self::Skipped {
                timesteps,
                rho,
                ends: [min, max],
            } => {
                let skip = *timesteps as usize / n;
                if skip == 0 {
                    let timesteps = *timesteps;
                    return Err(GridError::Length { n, timesteps });
                }
                let root = |sigma: f64| sigma.powf(rho.recip());
                let last = f64::from(timesteps.saturating_sub(1).max(1));
                let sigma = |i: usize| {
                    let share = (i * skip) as f64 / last;
                    (root(*max) + share * (root(*min) - root(*max))).powf(*rho)
                };
                let level = |i| Sigma::Exploding.level(process, sigma(i));
                (0..n).map(level).collect()
            }
        }
    }

    fn flow(&self, n: usize) -> Result<Vec<NoiseLevel>, GridError> {
        let &Self::Flow {
            from,
            to,
            one_more,
            shift,
            terminal,
            ref grid,
        } = self
        else {
            return Ok(Vec::new());
        };
        let gaps = (n + usize::from(one_more)).saturating_sub(1).max(1) as f64;
        let shifted = |u: f64| shift * u / (1.0 + (shift - 1.0) * u);
        let even = |i: usize| shifted(from + i as f64 / gaps * (to - from));
        let mut sigmas: Vec<f64> = (0..n).map(even).collect();
        // UniPC divides by a, so it starts slightly below pure noise.
        if one_more && sigmas[0] == 1.0 {
            sigmas[0] -= 1e-6;
        }
        if let Some(terminal) = terminal {
            let stretch = (1.0 - sigmas[n - 1]) / (1.0 - terminal);
            for sigma in &mut sigmas {
                *sigma = 1.0 - (1.0 - *sigma) / stretch;
            }
        }
        if let Some(grid) = grid {
            sigmas = self::sigmas(grid, [sigmas[n - 1], sigmas[0]], n)?;
        }
        let level = |&sigma: &f64| {
            let level = NoiseLevel::rectified_flow(sigma);
            level.map_err(|_| GridError::Sigma { sigma })
        };
        sigmas.iter().map(level).collect()
    }
}

/// `n` numbers from the larger end to the smaller.
fn sigmas(grid: &Grid, [min, max]: [f64; 2], n: usize) -> Result<Vec<f64>, GridError> {
    let levels = grid.levels(&Process::edm(min, max)?, n)?;
    let points = &levels.as_slice()[..levels.len()];
    let mut sigmas: Vec<f64> = points.iter().map(|level| level.sigma()).collect();
    // The exact ends, without the rounding of a logarithm.
    if let Some(first) = sigmas.first_mut() {
        *first = max;
    }
    if let [_, .., last] = &mut sigmas[..] {
        *last = min;
    }
    Ok(sigmas)
}

impl Sigma {
    pub(super) fn level(self, process: &Process, sigma: f64) -> Result<NoiseLevel, GridError> {
        let level = match self {
            Self::Preserving => {
                let (noisiest, least) = process.ends();
                let same = |end: &NoiseLevel| (end.sigma() / sigma - 1.0).abs() < 1e-12;
                if let Some(end) = [noisiest, least].into_iter().find(same) {
                    return Ok(end);
                }
                let a = 1.0 / sigma.hypot(1.0);
                NoiseLevel::new(a, sigma * a)
            }
            Self::Exploding => NoiseLevel::variance_exploding(sigma),
            Self::Odds => NoiseLevel::rectified_flow(sigma / (1.0 + sigma)),
        };
        level.map_err(|_| GridError::Sigma { sigma })
    }
}

/// b = sin²(πu/2) and a² = 1 − b² = cos²(πu/2)·(1 + b).
fn sine(u: f64) -> Result<NoiseLevel, GridError> {
    let (sin, cos) = (u * std::f64::consts::FRAC_PI_2).sin_cos();
    let b = sin * sin;
    let a = if u == 1.0 {
        0.0
    } else {
        cos * (1.0 + b).sqrt()
    };
    NoiseLevel::new(a, b).map_err(|_| GridError::Time { time: u })
}
