//! The published ways to choose the levels of a trajectory.

use crate::{NoiseLevel, NoiseSchedule, Trajectory, TrajectoryError};

/// ρ of Karras et al. 2022, table 1.
const KARRAS_RHO: f64 = 7.0;

/// How N levels of a schedule are chosen; clean data comes after the last.
///
/// The first four choose timesteps, rounding to nearest, ties to even, as NumPy's. The others
/// choose levels from T's to that of t = 1, in equal steps of σ^(1/ρ) with σ = b/a; those
/// between timesteps are [`NoiseSchedule::at_log_snr`]'s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spacing {
    /// t−1 = i·⌊T/N⌋ for i < N: ends at 1, and leaves the noisiest times out
    /// (Song et al. 2020, DDIM).
    Leading,
    /// t = round(T − i·T/N) for i < N: starts at T (Lin et al. 2023, §3.3).
    Trailing,
    /// t−1 = round(i·(T−1)/(N−1)) for i < N: starts at T and ends at 1; with N = 1 it
    /// is T.
    Linspace,
    /// t−1 = round((T−1)·(i/(N−1))²) for i < N, each made at least one more than the
    /// one before: dense where the noise is low (Song et al. 2020, app. D.2). It starts
    /// at T, as the paper has it; the paper's code starts at 0.8·T.
    Quadratic,
    /// σ^(1/ρ) in equal steps, ρ = 7 (Karras et al. 2022, eq. 5).
    Karras,
    /// The log-SNR in equal steps (Lu et al. 2022): Karras' rule for ρ → ∞.
    LogSnr,
}

impl Spacing {
    /// Every spacing.
    pub const ALL: [Self; 6] = [
        Self::Leading,
        Self::Trailing,
        Self::Linspace,
        Self::Quadratic,
        Self::Karras,
        Self::LogSnr,
    ];

    /// `n` levels of `schedule`.
    ///
    /// # Errors
    ///
    /// Unless 1 ≤ `n` ≤ T; and where [`Self::Karras`] or [`Self::LogSnr`] are asked for a
    /// schedule without signal at T, or one so flat that its levels do not differ.
    pub fn trajectory(
        self,
        schedule: &NoiseSchedule,
        n: u32,
    ) -> Result<Trajectory, TrajectoryError> {
        let timesteps = schedule.timesteps();
        if !(1..=timesteps).contains(&n) {
            return Err(TrajectoryError::Length { n, timesteps });
        }
        let span = f64::from(timesteps - 1);
        match self {
            Self::Leading => by_time(schedule, (0..n).map(|i| 1 + i * (timesteps / n))),
            Self::Trailing => by_time(
                schedule,
                (1..=n).map(|i| round(f64::from(timesteps) * f64::from(i) / f64::from(n))),
            ),
            Self::Linspace => by_time(schedule, (0..n).map(|i| 1 + round(even(i, n, span)))),
            Self::Quadratic => {
                let mut previous = 0;
                by_time(
                    schedule,
                    (0..n).map(|i| {
                        previous = (1 + round(span * even(i, n, 1.0).powi(2))).max(previous + 1);
                        previous
                    }),
                )
            }
            // σ^(1/ρ) of ln σ = −λ/2, and back.
            Self::Karras => by_log_snr(
                schedule,
                n,
                |lambda| (-0.5 * lambda / KARRAS_RHO).exp(),
                |root| -2.0 * KARRAS_RHO * root.ln(),
            ),
            Self::LogSnr => by_log_snr(schedule, n, |lambda| lambda, |lambda| lambda),
        }
    }
}

/// The place i of N from 0 to `span` in equal steps, rounded as NumPy's linspace rounds, for it
/// decides between two times equally near. Of N = 1 it is the last, the noisiest.
fn even(i: u32, n: u32, span: f64) -> f64 {
    if n == 1 {
        span
    } else {
        f64::from(i) * (span / f64::from(n - 1))
    }
}

/// The times as given, from data to noise, the other way round.
fn by_time(
    schedule: &NoiseSchedule,
    ascending: impl Iterator<Item = u32>,
) -> Result<Trajectory, TrajectoryError> {
    let times: Vec<_> = ascending.collect();
    Trajectory::from_timesteps(schedule, times.into_iter().rev())
}

/// `n` levels from T's to that of t = 1, in equal steps of a function of the log-SNR, given
/// with its inverse.
fn by_log_snr(
    schedule: &NoiseSchedule,
    n: u32,
    place: impl Fn(f64) -> f64,
    log_snr: impl Fn(f64) -> f64,
) -> Result<Trajectory, TrajectoryError> {
    let first = schedule.visit(schedule.first());
    let last = schedule.visit(schedule.last());
    let [start, end] = [last, first].map(|visit| visit.level.log_snr());
    if start == f64::NEG_INFINITY {
        let t = last.t.get();
        return Err(TrajectoryError::NoSignal { t });
    }
    let between = (1..n.saturating_sub(1)).filter_map(|i| {
        let share = even(i, n, 1.0);
        let place = (1.0 - share) * place(start) + share * place(end);
        schedule.at_log_snr(log_snr(place))
    });
    let visits = std::iter::once(last).chain(between);
    // Both ends as the schedule has them, without the rounding of the function and its inverse.
    let visits = visits.chain((n > 1).then_some(first));
    Trajectory::new(visits, NoiseLevel::CLEAN)
}

/// The nearest integer to a time in 0..=T.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "x is a fraction of some T: u32"
)]
fn round(x: f64) -> u32 {
    x.round_ties_even() as u32
}
