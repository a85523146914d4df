//! From noise to data and back: published times, levels between them, and the steps.

use ddpm_schedule::solver::{
    Ddim, Ddpm, Eta, Exponential, Interpolant, Position, Solver, SolverError, Step, Variance,
    Weights, run, steps,
};
use ddpm_schedule::{Grid, GridError, Levels, NoiseLevel, NoiseSchedule, Process};
use proptest::prelude::*;

use crate::cases::{Chain, chain};
use crate::{assert_close, assert_relative};

/// The grids that choose timesteps.
const OF_TIMES: [Grid; 4] = [
    Grid::Leading { offset: 0 },
    Grid::Trailing,
    Grid::Linspace,
    Grid::Quadratic,
];
/// Two grids that choose levels between timesteps.
const OF_LEVELS: [Grid; 2] = [Grid::Karras { rho: 7.0 }, Grid::LogSnr];

const DDIM: Ddim = Ddim { eta: Eta::ZERO };
const DPMPP_2M: Exponential = Exponential {
    interpolant: Interpolant::X0,
    order: 2,
    weights: Weights::Midpoint,
    noise: 0.0,
    lower_order_final: false,
};

fn walk(timesteps: u32) -> NoiseSchedule {
    NoiseSchedule::random_walk(timesteps, 1.0).unwrap()
}

/// The timesteps of levels of a schedule, counted from 1.
fn times(schedule: &NoiseSchedule, levels: &Levels) -> Vec<u32> {
    let time = |(level, _)| {
        let t = schedule.nearest(level);
        assert_eq!(schedule.level(t), level);
        t.get()
    };
    levels.pairs().map(time).collect()
}

#[test]
fn spacings_have_the_published_tables() {
    use Grid::{Linspace, Quadratic, Trailing};
    let leading = Grid::Leading { offset: 0 };
    let cases: [(&Grid, u32, usize, &[u32]); 14] = [
        (&leading, 1000, 5, &[801, 601, 401, 201, 1]),
        // 6·142 + 1, not ⌊6000/7⌋ + 1.
        (&leading, 1000, 7, &[853, 711, 569, 427, 285, 143, 1]),
        (&Trailing, 1000, 4, &[1000, 750, 500, 250]),
        (&Trailing, 1000, 7, &[1000, 857, 714, 571, 429, 286, 143]),
        (&Trailing, 1000, 1, &[1000]),
        // 7.5, 5 and 2.5: ties go to the even neighbour, as NumPy's do.
        (&Trailing, 10, 4, &[10, 8, 5, 2]),
        (&Linspace, 1000, 5, &[1000, 750, 501, 251, 1]),
        // 29·7/14 = 14.5, which NumPy computes a rounding below.
        (
            &Linspace,
            30,
            15,
            &[30, 28, 26, 24, 22, 20, 18, 16, 13, 11, 9, 7, 5, 3, 1],
        ),
        (&Linspace, 1000, 2, &[1000, 1]),
        (&Linspace, 1000, 1, &[1000]),
        (&Quadratic, 1000, 5, &[1000, 563, 251, 63, 1]),
        // Without the minimum distance, the last three would be 2, 1, 1.
        (&Quadratic, 10, 8, &[10, 8, 6, 5, 4, 3, 2, 1]),
        (&Quadratic, 1000, 1, &[1000]),
        (&leading, 1, 1, &[1]),
    ];
    for (grid, timesteps, n, expected) in cases {
        let schedule = walk(timesteps);
        let levels = grid.levels(&schedule.clone().into(), n).unwrap();
        let times = times(&schedule, &levels);
        assert_eq!(times, expected, "{grid} {n} of {timesteps}");
    }
}

#[test]
fn pairs_chain_and_end_at_clean_data() {
    let schedule = walk(100);
    let level = |t| schedule.level(schedule.timestep(t).unwrap());
    let visited = [90, 31, 4].map(level);
    let levels = Levels::new(visited.into_iter().chain([NoiseLevel::CLEAN])).unwrap();
    assert_eq!((levels.len(), levels.pairs().len()), (3, 3));
    assert!(!levels.is_empty());
    assert_eq!(
        (levels.start(), levels.end()),
        (level(90), NoiseLevel::CLEAN)
    );
    let pairs: Vec<_> = levels.pairs().collect();
    let expected = [
        (level(90), level(31)),
        (level(31), level(4)),
        (level(4), NoiseLevel::CLEAN),
    ];
    assert_eq!(pairs, expected);
}

proptest! {
    #[test]
    fn spacings_strictly_decrease_within_the_schedule(
        (timesteps, n) in (1_u32..1500).prop_flat_map(|timesteps| (Just(timesteps), 1..=timesteps)),
    ) {
        let schedule = walk(timesteps);
        let process = Process::from(schedule.clone());
        for grid in OF_TIMES {
            let levels = grid.levels(&process, n as usize).unwrap();
            let times = times(&schedule, &levels);
            assert_eq!((levels.len(), levels.end()), (n as usize, NoiseLevel::CLEAN));
            assert!(times.is_sorted_by(|t, s| t > s), "{grid}: {times:?}");
            let leading = grid == Grid::Leading { offset: 0 };
            if !leading {
                assert_eq!(times[0], timesteps, "{grid}");
            }
            if grid != Grid::Trailing && (n > 1 || leading) {
                assert_eq!(times.last(), Some(&1), "{grid}");
            }
        }
    }

    #[test]
    fn all_timesteps_are_the_full_trajectory(timesteps in 1_u32..300) {
        let schedule = walk(timesteps);
        let full = Levels::full(&schedule);
        assert!(times(&schedule, &full).into_iter().eq((1..=timesteps).rev()));
        for grid in OF_TIMES {
            let process = schedule.clone().into();
            assert_eq!(grid.levels(&process, timesteps as usize).unwrap(), full);
        }
    }

    /// Levels from T to t = 1, evenly spaced in their coordinate, each with a network time between
    /// those of the neighbouring timesteps.
    #[test]
    fn spacings_of_levels_are_even_and_told_their_time(
        (timesteps, n) in (2_u32..400).prop_flat_map(|timesteps| (Just(timesteps), 2..=timesteps)),
    ) {
        let schedule = NoiseSchedule::linear(timesteps, 1e-3, 0.2 / f64::from(timesteps)).unwrap();
        let process = Process::from(schedule.clone());
        for grid in OF_LEVELS {
            let levels = grid.levels(&process, n as usize).unwrap();
            let levels = &levels.as_slice()[..n as usize];
            let last = *levels.last().unwrap();
            assert_eq!(levels[0], schedule.level(schedule.last()));
            assert_eq!(last, schedule.level(schedule.first()));
            // σ^(1/7) or ln σ; a step has an error of 2⁻⁵² of the whole.
            let place = |at: NoiseLevel| {
                let sigma = at.noise() / at.signal();
                if grid == Grid::LogSnr { sigma.ln() } else { sigma.powf(1.0 / 7.0) }
            };
            let step = (place(levels[0]) - place(last)) / f64::from(n - 1);
            for pair in levels.windows(2) {
                let size = place(levels[0]).abs().max(1.0);
                assert_close(place(pair[0]) - place(pair[1]), step, 1e-13 * size);
            }
            for &level in levels {
                // λ is linear in the time between two timesteps.
                let time = process.time(level);
                let at = |time: f64| {
                    let t = schedule.iter().nth(crate::whole(time)).unwrap();
                    schedule.level(t).log_snr()
                };
                let (low, high) = (at(time.floor()), at(time.ceil()));
                let lambda = low + time.fract() * (high - low);
                assert_close(lambda, level.log_snr(), 1e-10 * lambda.abs().max(1.0));
            }
        }
    }

    /// A level between two timesteps has the requested log-SNR, and a total variance between
    /// theirs: 1 if the process preserves it.
    #[test]
    fn levels_between_timesteps_keep_the_process(chain in chain(), share in 0.0..=1.0) {
        let schedule = chain.schedule();
        let process = Process::from(schedule.clone());
        let [first, last] = [schedule.first(), schedule.last()].map(|t| schedule.level(t));
        let lambda: f64 = (1.0 - share) * first.log_snr() + share * last.log_snr();
        let lambda = lambda.clamp(last.log_snr(), first.log_snr());
        let level = process.at_log_snr(lambda).unwrap();
        assert_close(level.log_snr(), lambda, 1e-13 * lambda.abs().max(1.0));
        let nearest = schedule.level(schedule.nearest(level)).log_snr();
        for t in schedule.iter() {
            // Neighbours decide, and rounding decides between equally near ones.
            let near = (schedule.level(t).log_snr() - lambda).abs();
            assert!((nearest - lambda).abs() <= near + 1e-12 * lambda.abs().max(1.0));
            let exact = schedule.level(t);
            assert_eq!(process.at_log_snr(exact.log_snr()), Some(exact));
            assert_eq!(process.time(exact), f64::from(t.network_input()));
        }
        let std = level.prior_std();
        if matches!(chain, Chain::Ddpm { .. }) {
            assert_relative(std, 1.0, 1e-14);
        }
        let above = schedule.iter().find(|&t| schedule.level(t).log_snr() <= lambda).unwrap();
        let below = schedule.timestep(above.get() - 1).unwrap_or(above);
        let [one, other] = [above, below].map(|t| schedule.level(t).prior_std());
        assert!(one.min(other) * (1.0 - 1e-13) <= std && std <= one.max(other) * (1.0 + 1e-13));
        for beyond in [first.log_snr() + 1e-3, last.log_snr() - 1e-3, f64::NAN] {
            assert_eq!(process.at_log_snr(beyond), None);
        }
    }

    /// If the network's output does not depend on x or t, inversion is exact, because each step is
    /// undone with the same ε̂ and x̂₀, by DDIM and by DPM-Solver++ of first order.
    #[test]
    fn inversion_undoes_sampling(
        chain in chain(),
        x0 in -3.0..3.0,
        x in -3.0..3.0,
    ) {
        let schedule = chain.schedule();
        if schedule.timesteps() < 2 {
            return Ok(());
        }
        let end = schedule.level(schedule.first());
        let there = Levels::full(&schedule).ending_at(end).unwrap();
        let first_order = Exponential { order: 1, ..DPMPP_2M };
        let solvers: [&dyn Solver; 2] = [&DDIM, &first_order];
        for solver in solvers {
            let run = |levels: &Levels, x: f64| {
                let none = |_| panic!("the solver uses no noise");
                run(&solver, levels.as_slice(), vec![x], |_, _| vec![x0], none).unwrap()[0]
            };
            let start = x * schedule.level(schedule.last()).prior_std();
            let back = run(&there.inverse().unwrap(), run(&there, start));
            // A step to data multiplies x by b_s/b_t, and the inverse step multiplies its rounding
            // by b_t/b_s.
            let last = schedule.level(schedule.last());
            let grown = last.noise() / end.noise();
            let sizes = (start.abs() + f64::abs(x0) * 40.0) * (1.0 + grown) * (1.0 + last.signal());
            assert_close(back, start, 1e-13 * sizes);
        }
    }
}

fn position(t: NoiseLevel, s: NoiseLevel) -> Position<'static> {
    let (past, left) = (&[][..], None);
    Position { past, t, s, left }
}

/// A deterministic step to pure noise is a limit of the formula.
#[test]
fn a_step_to_pure_noise_returns_epsilon() {
    let level = |alpha_bar| NoiseLevel::variance_preserving(alpha_bar).unwrap();
    let [noise, t] = [level(0.0), level(0.36)];
    let solvers: [&dyn Solver; 2] = [&DDIM, &DPMPP_2M];
    for solver in solvers {
        // x_s = ε̂ = (x_t − 0.6·x̂₀)/0.8.
        let Step { last, .. } = Step::of(&solver, &position(t, noise)).unwrap();
        assert_close(last.state + last.past[0].x, 1.25, 1e-15);
        assert_close(last.past[0].x0, -0.75, 1e-15);
        assert_eq!(last.past.len(), 1);
        assert!(last.z.iter().all(|&z| z == 0.0));
    }
}

#[test]
fn ddpm_cannot_step_towards_noise() {
    let schedule = walk(5);
    let [t, s] = [schedule.first(), schedule.last()].map(|t| schedule.level(t));
    let variance = Variance::Small;
    let refused = Step::of(&Ddpm { variance }, &position(t, s)).unwrap_err();
    let (from, to) = (t.log_snr(), s.log_snr());
    assert_eq!(refused, SolverError::AddsNoise { from, to });
}

#[test]
fn steps_from_clean_data_are_refused() {
    let s = NoiseLevel::variance_preserving(0.5).unwrap();
    let refused = steps(&DPMPP_2M, &[NoiseLevel::CLEAN, s]).unwrap_err();
    let from = f64::INFINITY;
    assert_eq!(refused, SolverError::AsksAtClean { from });
    let message = "the step from a log-SNR of inf evaluates the denoiser at clean data";
    assert_eq!(refused.to_string(), message);
}

#[test]
fn invalid_levels_are_refused() {
    let schedule = walk(4);
    let level = |t| schedule.level(schedule.timestep(t).unwrap());
    let clean = NoiseLevel::CLEAN;
    let full = Levels::full(&schedule);
    let no_steps = "there must be at least one step, from one level to another";
    let from_clean = "levels cannot start at clean data, which does not determine the noise";
    for (result, message) in [
        (Levels::new([]), no_steps),
        (Levels::new([level(1)]), no_steps),
        (full.ending_at(level(4)), no_steps),
        (
            Levels::new([level(4), level(1), level(2)]),
            "the log-SNR must be monotone from -1.3862943611198906 to -0.6931471805599454, but \
             -0.6931471805599454 follows 0",
        ),
        (
            Levels::new([level(2), level(2)]),
            "the log-SNR must be monotone from -0.6931471805599454 to -0.6931471805599454, but \
             -0.6931471805599454 follows -0.6931471805599454",
        ),
        (Levels::new([clean, level(2), level(3)]), from_clean),
        (full.inverse(), from_clean),
    ] {
        assert_eq!(result.unwrap_err().to_string(), message);
    }
    for grid in OF_TIMES {
        let of_ten = |n| grid.levels(&walk(10).into(), n);
        assert_eq!(of_ten(0), Err(GridError::NoSteps));
        let (n, timesteps) = (11, 10);
        assert_eq!(of_ten(n), Err(GridError::Length { n, timesteps }));
    }
    let zero_snr = NoiseSchedule::linear(10, 0.1, 0.2)
        .and_then(|schedule| schedule.rescale_zero_terminal_snr())
        .unwrap();
    for grid in OF_LEVELS {
        let refused = grid.levels(&zero_snr.clone().into(), 3);
        assert_eq!(refused, Err(GridError::NoSignal));
    }
}
