//! Trajectories: published tables, and what holds for every length.

use ddpm_schedule::{
    Eta, NoiseLevel, NoiseSchedule, Sampler, Spacing, Trajectory, TrajectoryError, Visit,
};
use proptest::prelude::*;

use crate::chains::{Chain, chain};
use crate::{assert_close, assert_relative};

/// The spacings that choose timesteps.
const OF_TIMES: [Spacing; 4] = [
    Spacing::Leading,
    Spacing::Trailing,
    Spacing::Linspace,
    Spacing::Quadratic,
];
/// Those that choose levels between them.
const OF_LEVELS: [Spacing; 2] = [Spacing::Karras, Spacing::LogSnr];

fn walk(timesteps: u32) -> NoiseSchedule {
    NoiseSchedule::random_walk(timesteps, 1.0).unwrap()
}

fn times(trajectory: &Trajectory) -> Vec<u32> {
    trajectory.visits().iter().map(|at| at.t.get()).collect()
}

#[test]
fn spacings_have_the_published_tables() {
    use Spacing::{Leading, Linspace, Quadratic, Trailing};
    let cases: [(Spacing, u32, u32, &[u32]); 14] = [
        (Leading, 1000, 5, &[801, 601, 401, 201, 1]),
        // 6·142 + 1, not ⌊6000/7⌋ + 1.
        (Leading, 1000, 7, &[853, 711, 569, 427, 285, 143, 1]),
        (Trailing, 1000, 4, &[1000, 750, 500, 250]),
        (Trailing, 1000, 7, &[1000, 857, 714, 571, 429, 286, 143]),
        (Trailing, 1000, 1, &[1000]),
        // 7.5, 5 and 2.5: ties go to the even neighbour, as NumPy's do.
        (Trailing, 10, 4, &[10, 8, 5, 2]),
        (Linspace, 1000, 5, &[1000, 750, 501, 251, 1]),
        // 29·7/14 = 14.5, which NumPy computes a rounding below.
        (
            Linspace,
            30,
            15,
            &[30, 28, 26, 24, 22, 20, 18, 16, 13, 11, 9, 7, 5, 3, 1],
        ),
        (Linspace, 1000, 2, &[1000, 1]),
        (Linspace, 1000, 1, &[1000]),
        (Quadratic, 1000, 5, &[1000, 563, 251, 63, 1]),
        // Unforced, the last three would be 2, 1, 1.
        (Quadratic, 10, 8, &[10, 8, 6, 5, 4, 3, 2, 1]),
        (Quadratic, 1000, 1, &[1000]),
        (Leading, 1, 1, &[1]),
    ];
    for (spacing, timesteps, n, expected) in cases {
        let trajectory = spacing.trajectory(&walk(timesteps), n).unwrap();
        assert_eq!(
            times(&trajectory),
            expected,
            "{spacing:?} {n} of {timesteps}"
        );
    }
}

#[test]
fn each_spacing_has_its_constructor() {
    let schedule = walk(100);
    let makers = [
        Trajectory::leading,
        Trajectory::trailing,
        Trajectory::linspace,
        Trajectory::quadratic,
    ];
    for (make, spacing) in makers.into_iter().zip(OF_TIMES) {
        assert_eq!(make(&schedule, 7), spacing.trajectory(&schedule, 7));
    }
}

#[test]
fn pairs_chain_and_end_at_clean_data() {
    let schedule = walk(100);
    let trajectory = Trajectory::from_timesteps(&schedule, [90, 31, 4]).unwrap();
    let level = |t| schedule.level(schedule.timestep(t).unwrap());
    let pairs: Vec<_> = trajectory.pairs().map(|(t, s)| (t.t, t.level, s)).collect();
    assert_eq!(trajectory.pairs().len(), 3);
    assert_eq!(
        pairs.iter().map(|p| p.0.get()).collect::<Vec<_>>(),
        [90, 31, 4]
    );
    assert_eq!((pairs[0].1, pairs[0].2), (level(90), level(31)));
    assert_eq!((pairs[1].1, pairs[1].2), (level(31), level(4)));
    assert_eq!((pairs[2].1, pairs[2].2), (level(4), NoiseLevel::CLEAN));
}

proptest! {
    #[test]
    fn spacings_strictly_decrease_within_the_schedule(
        (timesteps, n) in (1_u32..1500).prop_flat_map(|timesteps| (Just(timesteps), 1..=timesteps)),
    ) {
        let schedule = walk(timesteps);
        for spacing in OF_TIMES {
            let trajectory = spacing.trajectory(&schedule, n).unwrap();
            let times = times(&trajectory);
            assert_eq!(trajectory.len(), n as usize);
            assert!(!trajectory.is_empty());
            assert!(times.is_sorted_by(|t, s| t > s), "{spacing:?}: {times:?}");
            assert!(times.iter().all(|t| (1..=timesteps).contains(t)));
            if spacing != Spacing::Leading {
                assert_eq!(times[0], timesteps, "{spacing:?}");
            }
            if spacing != Spacing::Trailing && (n > 1 || spacing == Spacing::Leading) {
                assert_eq!(times.last(), Some(&1), "{spacing:?}");
            }
        }
    }

    #[test]
    fn all_timesteps_are_the_full_trajectory(timesteps in 1_u32..300) {
        let schedule = walk(timesteps);
        let full = Trajectory::full(&schedule);
        assert!(times(&full).into_iter().eq((1..=timesteps).rev()));
        for spacing in OF_TIMES {
            assert_eq!(spacing.trajectory(&schedule, timesteps).unwrap(), full);
        }
    }

    /// Levels from T's to that of t = 1, evenly spaced in their coordinate, each told the time
    /// of the level nearest in log-SNR.
    #[test]
    fn spacings_of_levels_are_even_and_told_the_nearest_time(
        (timesteps, n) in (2_u32..400).prop_flat_map(|timesteps| (Just(timesteps), 2..=timesteps)),
    ) {
        let schedule = NoiseSchedule::linear(timesteps, 1e-3, 0.2 / f64::from(timesteps)).unwrap();
        for spacing in OF_LEVELS {
            let trajectory = spacing.trajectory(&schedule, n).unwrap();
            let visits = trajectory.visits();
            assert_eq!(visits.len(), n as usize);
            assert_eq!(visits[0], schedule.visit(schedule.last()));
            assert_eq!(visits[visits.len() - 1], schedule.visit(schedule.first()));
            // σ^(1/7) or ln σ; a step of it is as accurate as 2⁻⁵² of the whole.
            let place = |at: &Visit| {
                let sigma = at.level.noise() / at.level.signal();
                if spacing == Spacing::Karras { sigma.powf(1.0 / 7.0) } else { sigma.ln() }
            };
            let step = (place(&visits[0]) - place(&visits[visits.len() - 1])) / f64::from(n - 1);
            for pair in visits.windows(2) {
                assert_close(place(&pair[0]) - place(&pair[1]), step, 1e-13 * place(&visits[0]).abs().max(1.0));
            }
            for at in visits {
                let far = |t| (schedule.level(t).log_snr() - at.level.log_snr()).abs();
                assert!(schedule.iter().all(|t| far(t) >= far(at.t) - 1e-12));
            }
        }
    }

    /// A level between two timesteps has the log-SNR asked for, and a total variance between
    /// theirs: 1 where the process preserves it.
    #[test]
    fn levels_between_timesteps_keep_the_process(chain in chain(), share in 0.0..=1.0) {
        let schedule = chain.schedule();
        let [first, last] = [schedule.first(), schedule.last()].map(|t| schedule.level(t));
        let lambda: f64 = (1.0 - share) * first.log_snr() + share * last.log_snr();
        let lambda = lambda.clamp(last.log_snr(), first.log_snr());
        let at = schedule.at_log_snr(lambda).unwrap();
        assert_close(at.level.log_snr(), lambda, 1e-13 * lambda.abs().max(1.0));
        let told = schedule.level(at.t).log_snr();
        for t in schedule.iter() {
            // Neighbours decide, and rounding decides between equally near ones.
            let near = (schedule.level(t).log_snr() - lambda).abs();
            assert!((told - lambda).abs() <= near + 1e-12 * lambda.abs().max(1.0));
            assert_eq!(schedule.at_log_snr(schedule.level(t).log_snr()), Some(schedule.visit(t)));
        }
        let std = at.level.prior_std();
        if matches!(chain, Chain::Ddpm { .. }) {
            assert_relative(std, 1.0, 1e-14);
        }
        let above = schedule.iter().find(|&t| schedule.level(t).log_snr() <= lambda).unwrap();
        let below = schedule.timestep(above.get() - 1).unwrap_or(above);
        let [one, other] = [above, below].map(|t| schedule.level(t).prior_std());
        assert!(one.min(other) * (1.0 - 1e-13) <= std && std <= one.max(other) * (1.0 + 1e-13));
        for beyond in [first.log_snr() + 1e-3, last.log_snr() - 1e-3, f64::NAN] {
            assert_eq!(schedule.at_log_snr(beyond), None);
        }
    }

    /// There and back: the way back visits the levels in the other order, each told the time
    /// its step was made with, and the way back from it is the way there.
    #[test]
    fn the_inverse_of_the_inverse_is_the_trajectory(
        n in 2_u32..40,
        end in 1_u32..20,
    ) {
        let schedule = walk(100);
        let end = schedule.level(schedule.timestep(end).unwrap());
        for spacing in Spacing::ALL {
            let there = spacing.trajectory(&schedule, n).unwrap().ending_at(end).unwrap();
            let back = there.inverse().unwrap();
            assert_eq!(back.inverse().unwrap(), there);
            let undone: Vec<_> = back.pairs().map(|(s, t)| (s.t, t, s.level)).collect();
            let steps: Vec<_> = there.pairs().map(|(t, s)| (t.t, t.level, s)).collect();
            assert!(undone.iter().eq(steps.iter().rev()));
        }
    }

    /// Where the network's answer does not depend on x or t, inversion is exact: each step's
    /// ε̂ and x̂₀ are those it is undone with, for DDIM and, of first order, DPM-Solver++.
    #[test]
    fn the_way_back_undoes_the_way_there(
        chain in chain(),
        x0 in -3.0..3.0,
        x in -3.0..3.0,
    ) {
        let schedule = chain.schedule();
        if schedule.timesteps() < 2 {
            return Ok(());
        }
        let end = schedule.level(schedule.first());
        let there = Trajectory::full(&schedule).ending_at(end).unwrap();
        for sampler in [Sampler::Ddim { eta: Eta::ZERO }, Sampler::DpmPp2M] {
            let run = |trajectory: &Trajectory, x: f64| {
                trajectory.pairs().fold(x, |x, (t, s)| {
                    let step = sampler.step(None, t.level, s);
                    step.x0 * x0 + step.x_t * x
                })
            };
            let start = x * schedule.level(schedule.last()).prior_std();
            let back = run(&there.inverse().unwrap(), run(&there, start));
            // On the way there all but b_s/b_t of x is forgotten, and rounding with it is
            // multiplied by b_t/b_s on the way back.
            let last = schedule.level(schedule.last());
            let grown = last.noise() / end.noise();
            let sizes = (start.abs() + f64::abs(x0) * 40.0) * (1.0 + grown) * (1.0 + last.signal());
            assert_close(back, start, 1e-13 * sizes);
        }
    }
}

/// The deterministic samplers' way to no signal at all is a limit of the formula.
#[test]
fn a_way_to_pure_noise_ends_in_its_noise() {
    let level = |alpha_bar| NoiseLevel::variance_preserving(alpha_bar).unwrap();
    let [noise, t] = [level(0.0), level(0.36)];
    for sampler in [Sampler::Ddim { eta: Eta::ZERO }, Sampler::DpmPp2M] {
        // x_s = ε̂ = (x_t − 0.6·x̂₀)/0.8.
        let step = sampler.step(None, t, noise);
        assert_close(step.x_t, 1.25, 1e-15);
        assert_close(step.x0, -0.75, 1e-15);
        assert_eq!((step.x0_prev, step.z), (0.0, 0.0));
    }
}

#[test]
#[should_panic(expected = "a step must lead to a higher log-SNR")]
fn noise_is_not_added_on_the_way_to_noise() {
    let schedule = walk(5);
    let [t, s] = [schedule.first(), schedule.last()].map(|t| schedule.level(t));
    Sampler::ANCESTRAL.step(None, t, s);
}

#[test]
#[should_panic(expected = "no step leads away from clean data")]
fn no_step_leads_away_from_clean_data() {
    let s = NoiseLevel::variance_preserving(0.5).unwrap();
    Sampler::DpmPp2M.step(None, NoiseLevel::CLEAN, s);
}

#[test]
fn trajectories_that_lead_nowhere_are_refused() {
    let schedule = walk(4);
    let visit = |t| schedule.visit(schedule.timestep(t).unwrap());
    let level = |t| visit(t).level;
    let clean = Visit {
        level: NoiseLevel::CLEAN,
        ..visit(1)
    };
    let full = Trajectory::full(&schedule);
    for (result, message) in [
        (
            Trajectory::new([], level(1)),
            "a trajectory visits at least one level before its end, where the log-SNR is 0",
        ),
        (
            full.ending_at(level(4)),
            "a trajectory visits at least one level before its end, where the log-SNR is \
             -1.3862943611198906",
        ),
        (
            Trajectory::new([visit(4), visit(1)], level(2)),
            "the log-SNR must go one way from -1.3862943611198906 to -0.6931471805599454, but \
             -0.6931471805599454 follows 0",
        ),
        (
            Trajectory::new([visit(2)], level(2)),
            "the log-SNR must go one way from -0.6931471805599454 to -0.6931471805599454, but \
             -0.6931471805599454 follows -0.6931471805599454",
        ),
        (
            Trajectory::new([clean, visit(2)], level(3)),
            "no step leads away from clean data, which says nothing of its noise",
        ),
        (
            full.inverse(),
            "no step leads away from clean data, which says nothing of its noise",
        ),
    ] {
        assert_eq!(result.unwrap_err().to_string(), message);
    }
    let zero_snr = NoiseSchedule::linear(10, 0.1, 0.2)
        .and_then(|schedule| schedule.rescale_zero_terminal_snr())
        .unwrap();
    for spacing in OF_LEVELS {
        assert_eq!(
            spacing.trajectory(&zero_snr, 3),
            Err(TrajectoryError::NoSignal { t: 10 })
        );
    }
}
