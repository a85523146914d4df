//! Grids: the tables of diffusers, k-diffusion and ComfyUI, and properties for every length.
//!
//! The tables are computed by these libraries in double precision.
#![allow(
    clippy::unreadable_literal,
    reason = "the tables have no separators, so that they can be searched for"
)]

mod published;

use ddpm_schedule::{Grid, GridError, GridOptions, Levels, NoiseLevel, NoiseSchedule, Process};
use proptest::prelude::*;

use crate::assert_relative;

const BETA: Grid = Grid::BetaSigma {
    alpha: 0.6,
    beta: 0.6,
};
const KARRAS: Grid = Grid::Karras { rho: 7.0 };

/// Linear β from 10⁻⁴ to 0.02 over T timesteps.
fn lin(timesteps: u32) -> Process {
    NoiseSchedule::linear(timesteps, 1e-4, 0.02).unwrap().into()
}

fn sigmas(levels: &Levels) -> Vec<f64> {
    levels
        .as_slice()
        .iter()
        .map(|level| level.sigma())
        .collect()
}

/// b/(a + b), which a flow calls σ.
fn flow_times(levels: &Levels) -> Vec<f64> {
    let share = |level: &NoiseLevel| level.noise() / (level.signal() + level.noise());
    levels.as_slice().iter().map(share).collect()
}

/// The network times of the levels at which steps start.
fn times(process: &Process, levels: &Levels) -> Vec<f64> {
    levels.pairs().map(|(t, _)| process.time(t)).collect()
}

#[track_caller]
fn assert_all(actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{actual:?}");
    for (actual, expected) in actual.iter().zip(expected) {
        assert_relative(*actual, *expected, tolerance);
    }
}

/// The rest of a grid from a level between two timesteps, as SDEdit starts it.
#[test]
fn a_grid_starts_at_any_level() {
    for process in [
        lin(1000),
        Process::flow(3.0).unwrap(),
        Process::vp_linear(0.1, 20.0).unwrap(),
    ] {
        let start = process.level(617.4).unwrap();
        let options = GridOptions {
            start: Some(start),
            ..GridOptions::default()
        };
        for grid in Grid::ALL {
            let levels = grid.levels_with(&process, 6, options).unwrap();
            assert_eq!(
                (levels.start(), levels.end()),
                (start, NoiseLevel::CLEAN),
                "{grid}"
            );
            assert_eq!(levels.len(), 6, "{grid}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// Every grid of every process falls strictly, in n steps, from the noisiest level to data.
    #[test]
    fn every_grid_leads_from_noise_to_data(n in 1_usize..40, shift in 0.2..9.0) {
        for process in [
            lin(1000),
            Process::vp_linear(0.1, 20.0).unwrap(),
            Process::edm(0.002, 80.0).unwrap(),
            Process::flow(shift).unwrap(),
        ] {
            let (noisiest, least) = process.ends();
            for grid in Grid::ALL {
                if grid == Grid::LogSnr && noisiest.sigma() == f64::INFINITY {
                    assert_eq!(grid.levels(&process, n), Err(GridError::NoSignal));
                    continue;
                }
                let levels = grid.levels(&process, n).unwrap();
                assert_eq!(levels.len(), n);
                let leads_out = matches!(grid, Grid::Leading { .. } | Grid::Lcm { .. });
                assert!(leads_out || levels.start() == noisiest, "{grid} {n} {process:?}");
                let reaches = [KARRAS, Grid::Exponential, BETA, Grid::KlOptimal].contains(&grid);
                assert!(!reaches || n == 1 || levels.as_slice()[n - 1] == least);
                let options = GridOptions { end: Some(least), ..GridOptions::default() };
                let levels = grid.levels_with(&process, n, options).unwrap();
                assert_eq!((levels.len(), levels.end()), (n, least), "{grid} {n} {process:?}");
            }
        }
    }

    /// Reversing twice gives the same levels.
    #[test]
    fn the_inverse_of_the_inverse_is_the_same(n in 2_usize..40, end in 1.0..20.0) {
        let process = lin(100);
        let end = process.level(end).unwrap();
        for grid in Grid::ALL {
            let there = grid.levels(&process, n).unwrap().ending_at(end).unwrap();
            assert_eq!(there.end(), end);
            let back = there.inverse().unwrap();
            assert_eq!(back.inverse().unwrap(), there);
            let undone: Vec<_> = back.pairs().map(|(t, s)| (s, t)).collect();
            assert!(undone.into_iter().rev().eq(there.pairs()));
        }
    }
}

#[test]
fn grids_are_parsed_from_their_names_in_all_libraries() {
    for grid in Grid::ALL {
        assert_eq!(grid.name().parse::<Grid>().unwrap(), grid);
        assert_eq!(grid.to_string(), grid.name());
    }
    for (alias, name) in [
        ("lu", "log-snr"),
        ("use_lu_lambdas", "log-snr"),
        ("use_karras_sigmas", "karras"),
        ("beta", "beta-time"),
        ("use_beta_sigmas", "beta-sigma"),
        ("kl_optimal", "kl-optimal"),
        ("sgm_uniform", "trailing"),
    ] {
        assert_eq!(alias.parse::<Grid>().unwrap().name(), name);
    }
}

#[test]
fn invalid_grids_are_refused() {
    let process = lin(4);
    let grid = |grid: Grid, n| grid.levels(&process, n);
    let level = |time| process.level(time).unwrap();
    let with = |start, end| {
        let (start, end) = (Some(start), Some(end));
        let options = GridOptions {
            start,
            end,
            ..GridOptions::default()
        };
        Grid::Linspace.levels_with(&process, 2, options)
    };
    let full = grid(Grid::Trailing, 4).unwrap();
    let zero = Process::flow(1.0).unwrap();
    for (result, message) in [
        (
            grid(Grid::Trailing, 0),
            "there must be at least one step, from one level to another",
        ),
        (
            Levels::new([level(3.0)]),
            "there must be at least one step, from one level to another",
        ),
        (
            grid(Grid::Linspace, 5),
            "a schedule of 4 timesteps has no grid of 5",
        ),
        (
            grid(Grid::Leading { offset: 1 }, 4),
            "the process has no level at the time 4",
        ),
        (
            grid(Grid::Times(vec![2.0, 1.0]), 3),
            "3 levels were requested, but 2 are listed",
        ),
        (
            grid(Grid::Times(vec![4.0]), 1),
            "the process has no level at the time 4",
        ),
        (
            grid(Grid::Times(vec![f64::NAN]), 1),
            "the process has no level at the time NaN",
        ),
        (
            grid(Grid::Sigmas(vec![9.0]), 1),
            "the process has no level of σ = 9",
        ),
        (
            grid(Grid::Sigmas(vec![-1.0]), 1),
            "the process has no level of σ = -1",
        ),
        (
            grid(Grid::Karras { rho: 0.0 }, 1),
            "rho = 0 is outside (0, ∞)",
        ),
        (
            grid(
                Grid::BetaSigma {
                    alpha: 0.6,
                    beta: 1e5,
                },
                1,
            ),
            "beta = 100000 is outside (0, 10⁴]",
        ),
        (
            grid(Grid::Lcm { original: 2 }, 3),
            "original = 2 is outside [n, ∞)",
        ),
        (
            Grid::LogSnr.levels(&zero, 3),
            "the first level has no signal: σ = b/a is infinite there and cannot be divided into steps",
        ),
        (
            full.inverse(),
            "levels cannot start at clean data, which does not determine the noise",
        ),
        (
            full.ending_at(level(3.0)),
            "there must be at least one step, from one level to another",
        ),
    ] {
        assert_eq!(result.unwrap_err().to_string(), message);
    }
    let times = Grid::Times(vec![1.0, 2.0]).levels(&process, 2);
    assert!(matches!(times, Err(GridError::NotMonotone { .. })));
    assert!(matches!(
        with(level(1.0), level(3.0)),
        Err(GridError::Backwards { .. })
    ));
    let name = "uniform".parse::<Grid>().unwrap_err().to_string();
    assert!(name.starts_with("there is no grid \"uniform\"; there are trailing, leading, "));
}
