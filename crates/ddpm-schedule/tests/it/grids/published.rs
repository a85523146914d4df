//! The published levels and times of diffusers, k-diffusion and ComfyUI.

use std::f64::consts::FRAC_PI_2;

use ddpm_schedule::{Fractional, Grid, GridOptions, NoiseLevel, Process};

use super::{BETA, KARRAS, assert_all, flow_times, lin, sigmas, times};
use crate::{assert_close, assert_relative};

/// The levels of diffusers' Euler, T = 1100, and the network times there.
#[test]
fn the_sigmas_of_euler() {
    let process = lin(1100);
    let options = GridOptions {
        fractional: Fractional::Sigma,
        ..GridOptions::default()
    };
    let linspace = Grid::Linspace.levels_with(&process, 10, options).unwrap();
    let expected = [
        261.0556034,
        81.40566936,
        29.11212112,
        11.91256326,
        5.535820127,
        2.864875142,
        1.58681763,
        0.8740824746,
        0.4001631917,
        0.01000050004,
        0.0,
    ];
    assert_all(&sigmas(&linspace), &expected, 1e-9);
    let karras = KARRAS.levels(&process, 10).unwrap();
    let expected = [
        261.0556034,
        140.0479521,
        70.69505459,
        33.13892459,
        14.16772102,
        5.385086498,
        1.752173092,
        0.4597524344,
        0.08780714297,
        0.01000050004,
        0.0,
    ];
    assert_all(&sigmas(&karras), &expected, 1e-9);
    let expected = [
        1099.0, 1035.5398, 961.05256, 871.09903, 757.83311, 605.77967, 387.29049, 139.53301,
        23.535209, 0.0,
    ];
    assert_all(&times(&process, &karras), &expected, 1e-7);
    let expected = [
        261.0556034,
        84.33101338,
        27.24216498,
        8.800268408,
        2.842825602,
        0.9183421489,
        0.2966598802,
        0.09583256594,
        0.03095760939,
        0.01000050004,
        0.0,
    ];
    for grid in [
        Grid::Exponential,
        Grid::Polyexponential { rho: 1.0 },
        Grid::LogSnr,
    ] {
        let exponential = grid.levels(&process, 10).unwrap();
        assert_all(&sigmas(&exponential), &expected, 1e-9);
    }
    let expected = [
        261.0556034,
        248.7624915,
        223.0470772,
        189.1601749,
        150.5876922,
        110.4779117,
        71.90542905,
        38.01852669,
        12.30311241,
        0.01000050004,
        0.0,
    ];
    assert_all(
        &sigmas(&BETA.levels(&process, 10).unwrap()),
        &expected,
        1e-9,
    );
}

/// Network times between timesteps, where ln σ is interpolated.
#[test]
fn fractional_times_are_not_rounded() {
    let process = lin(1100);
    let options = GridOptions {
        fractional: Fractional::LogSigma,
        ..GridOptions::default()
    };
    let levels = Grid::Linspace.levels_with(&process, 10, options).unwrap();
    let expected: Vec<_> = (0..10).rev().map(|i| 1099.0 / 9.0 * f64::from(i)).collect();
    for (actual, expected) in times(&process, &levels).into_iter().zip(expected) {
        assert_close(actual, expected, 1e-9);
    }
}

/// The levels of diffusers' DPM-Solver, T = 1000: one point more than steps, and the network times
/// of Karras', exponential and equal-λ levels.
#[test]
fn the_sigmas_of_dpm_solver() {
    let process = lin(1000);
    let expected = [
        157.4072808,
        60.27141007,
        25.52848139,
        11.93951962,
        6.135208879,
        3.442967113,
        2.041087003,
        1.240161046,
        0.7235912594,
        0.342259699,
    ];
    for end in [NoiseLevel::CLEAN, process.ends().1] {
        let options = GridOptions {
            end: Some(end),
            ..GridOptions::default()
        };
        let levels = Grid::Linspace.levels_with(&process, 10, options).unwrap();
        let (start, last) = (&sigmas(&levels)[..10], levels.end());
        assert_all(start, &expected, 1e-9);
        assert_eq!(last, end);
        let expected = [
            999.0, 899.0, 799.0, 699.0, 599.0, 500.0, 400.0, 300.0, 200.0, 100.0,
        ];
        assert_eq!(times(&process, &levels), expected);
    }
    let told = |grid: Grid, round: fn(f64) -> f64| {
        let levels = grid.levels(&process, 10).unwrap();
        let times = times(&process, &levels).into_iter();
        times.map(|time| round(time + 1e-9)).collect::<Vec<_>>()
    };
    let karras = [
        999.0, 937.0, 864.0, 775.0, 663.0, 511.0, 301.0, 102.0, 18.0, 0.0,
    ];
    assert_eq!(told(KARRAS, f64::round), karras);
    let differing = |told: Vec<f64>| [3, 4, 7, 8].map(|i| told[i]);
    let lu = differing(told(Grid::LogSnr, f64::round));
    assert_eq!(lu, [603.0, 410.0, 22.0, 5.0]);
    let exponential = differing(told(Grid::Exponential, f64::floor));
    assert_eq!(exponential, [602.0, 409.0, 21.0, 4.0]);
}

/// EDM's own levels and network times, and two of consistency models' 201.
#[test]
fn the_sigmas_of_edm() {
    let process = Process::edm(0.002, 80.0).unwrap();
    let levels = KARRAS.levels(&process, 10).unwrap();
    let expected = [
        80.0,
        42.4151893,
        21.1086767,
        9.72320136,
        4.0661236,
        1.50174198,
        0.469979058,
        0.116638564,
        0.0204353346,
        0.002,
        0.0,
    ];
    assert_all(&sigmas(&levels), &expected, 1e-8);
    let expected = [
        1.09550666,
        0.936876634,
        0.762421044,
        0.56862873,
        0.350672528,
        0.101656438,
        -0.188766786,
        -0.537168832,
        -0.972622448,
        -1.55365202,
    ];
    assert_all(&times(&process, &levels), &expected, 1e-8);
    let consistency = KARRAS.levels(&process, 201).unwrap();
    let level = consistency.as_slice()[106];
    assert_relative(level.sigma(), 1.912_843_620_695_361_4, 1e-13);
    let [noisiest, level] = [process.ends().0, level].map(|level| 1000.0 * process.time(level));
    assert_relative(noisiest, 250.0 * 80_f64.ln(), 1e-13);
    assert_relative(level, 162.147_735_382_871_1, 1e-12);
}

/// The grids of tan σ, of ρ = 2, and of Mochi's parabola.
#[test]
fn the_sigmas_of_comfyui() {
    let process = Process::edm(0.002, 80.0).unwrap();
    let levels = Grid::KlOptimal.levels(&process, 5).unwrap();
    let expected = [
        80.0,
        2.354_884_173_696_518_3,
        0.989_555_383_218_143_8,
        0.412_311_223_433_402_5,
        0.002,
        0.0,
    ];
    assert_all(&sigmas(&levels), &expected, 1e-12);
    let levels = Grid::Polyexponential { rho: 2.0 }
        .levels(&process, 5)
        .unwrap();
    let expected = [
        80.0,
        0.775_690_978_994_742_8,
        0.028_284_271_247_461_905,
        0.003_878_454_894_973_715_3,
        0.002,
        0.0,
    ];
    assert_all(&sigmas(&levels), &expected, 1e-12);
    let expected = [
        1.0,
        0.991_666_666_666_666_7,
        0.983_333_333_333_333_3,
        0.975,
        0.907_812_5,
        0.722_916_666_666_666_2,
        0.420_312_5,
        0.0,
    ];
    let levels = Grid::LinearQuadratic.levels(&process, 7).unwrap();
    let shares: Vec<_> = sigmas(&levels).iter().map(|sigma| sigma / 80.0).collect();
    assert_all(&shares, &expected, 1e-12);
    let flow = Process::flow(1.0).unwrap();
    let levels = Grid::LinearQuadratic.levels(&flow, 7).unwrap();
    assert_all(&flow_times(&levels), &expected, 1e-12);
    let levels = Grid::LinearQuadratic.levels(&lin(1000), 1).unwrap();
    assert_relative(levels.start().sigma(), 157.407_280_8, 1e-9);
}

/// The quantiles of Beta(0.6, 0.6) as timesteps, and the 47 distinct ones of 60 with T = 50.
#[test]
fn the_times_of_comfyuis_beta() {
    let grid = Grid::BetaTime {
        alpha: 0.6,
        beta: 0.6,
    };
    let process = lin(1000);
    let expected = [
        999.0, 959.0, 876.0, 765.0, 637.0, 500.0, 362.0, 234.0, 123.0, 40.0,
    ];
    assert_eq!(
        times(&process, &grid.levels(&process, 10).unwrap()),
        expected
    );
    let fewer = grid.levels(&lin(50), 50).unwrap();
    assert!(fewer.len() < 50);
    assert_eq!(
        grid.levels(&Process::flow(1.0).unwrap(), 60).unwrap().len(),
        60
    );
}

type Distribution = fn(f64) -> f64;

/// Beta quantiles on a flow, where σ is the quantile stretched from [0, 1] to [0.001, 1]. The
/// distribution is elementary: xᵃ for b = 1, 2·asin(√x)/π for a = b = ½, 3x² − 2x³ for 2, 2.
#[test]
fn beta_quantiles_invert_the_distribution() {
    let flow = Process::flow(1.0).unwrap();
    let cases: [(f64, f64, Distribution); 4] = [
        (0.6, 1.0, |x| x.powf(0.6)),
        (0.5, 0.5, |x| x.sqrt().asin() / FRAC_PI_2),
        (2.0, 2.0, |x| x * x * (3.0 - 2.0 * x)),
        (1.0, 50.0, |x| -(50.0 * (-x).ln_1p()).exp_m1()),
    ];
    for (alpha, beta, distribution) in cases {
        let grid = Grid::BetaSigma { alpha, beta };
        let levels = grid.levels(&flow, 101).unwrap();
        for (i, t) in flow_times(&levels)
            .into_iter()
            .enumerate()
            .take(100)
            .skip(1)
        {
            let x = (t - 0.001) / 0.999;
            assert_close(distribution(x), 1.0 - i as f64 / 100.0, 1e-13);
        }
    }
}

/// Equal steps, then the shift; and grids of σ = b/(a + b).
#[test]
fn the_times_of_flows() {
    let flow = |shift| Process::flow(shift).unwrap();
    let levels = Grid::Linspace.levels(&flow(3.0), 10).unwrap();
    let expected = [
        1.0,
        0.9600431965,
        0.9131455399,
        0.8573264781,
        0.7897727273,
        0.7063492063,
        0.6007194245,
        0.4626556017,
        0.2745098039,
        0.002994011976,
        0.0,
    ];
    assert_all(&flow_times(&levels), &expected, 1e-9);
    let times = times(&flow(3.0), &levels);
    assert_close(times[1], 960.0431965, 1e-7);
    // The times that a user expects of ten equal steps.
    let levels = Grid::Trailing.levels(&flow(1.0), 10).unwrap();
    let expected: Vec<_> = (0..=10).rev().map(|i| f64::from(i) / 10.0).collect();
    assert_all(&flow_times(&levels), &expected, 1e-15);
    let end = Some(NoiseLevel::CLEAN);
    let options = GridOptions {
        end,
        ..GridOptions::default()
    };
    let same = Grid::Linspace.levels_with(&flow(1.0), 10, options).unwrap();
    assert_all(&flow_times(&same), &expected, 1e-15);
    let karras = KARRAS.levels(&flow(1.0), 10).unwrap();
    assert_relative(flow_times(&karras)[1], 0.603_090_800_932_964_4, 1e-13);
    let exponential = Grid::Exponential.levels(&flow(1.0), 10).unwrap();
    assert_relative(flow_times(&exponential)[1], 0.464_158_883_361_277_9, 1e-13);
    let beta = BETA.levels(&flow(1.0), 10).unwrap();
    assert_relative(flow_times(&beta)[4], 0.577_248_411_602_523_8, 1e-13);
    // UniPC's flow: Karras' σ = b/a, here those of EDM, as a flow.
    let edm = Process::edm(0.01, 200.0).unwrap();
    let expected = [
        0.9950248599052429,
        0.9787454605102539,
        0.8774884343147278,
        0.3604971766471863,
        0.009900986216962337,
        0.0,
    ];
    assert_all(
        &flow_times(&KARRAS.levels(&edm, 5).unwrap()),
        &expected,
        1e-6,
    );
}

/// The crash schedule b = sin²(πu/2), whose network time is the angle of (a, b).
#[test]
fn the_clock_of_ipndm() {
    let process = Process::vp_cosine(0.0).unwrap();
    let expected = [
        1.0, 0.85887069, 0.71952408, 0.58389762, 0.4542488, 0.33333333, 0.22457558, 0.13215924,
        0.06088455, 0.01558075,
    ];
    for (i, expected) in (0..10).rev().zip(expected) {
        let b = (f64::from(i + 1) / 10.0 * FRAC_PI_2).sin().powi(2);
        let level = NoiseLevel::new((1.0 - b * b).sqrt(), b).unwrap();
        assert_close(process.time(level) / 999.0, expected, 5e-9);
    }
}

/// The times of DDIM with Stable Diffusion's offset, of LCM, and of a list.
#[test]
fn the_times_of_other_schedulers() {
    let process = lin(1000);
    let lcm = Grid::Lcm { original: 50 };
    for (grid, expected) in [
        (
            Grid::Leading { offset: 1 },
            vec![801.0, 601.0, 401.0, 201.0, 1.0],
        ),
        (lcm.clone(), vec![999.0, 759.0, 499.0, 259.0]),
        (lcm.clone(), vec![999.0]),
        (
            lcm.clone(),
            (0..10).map(|i| 999.0 - 100.0 * f64::from(i)).collect(),
        ),
        (lcm, (0..50).map(|i| 999.0 - 20.0 * f64::from(i)).collect()),
        (
            Grid::Times(vec![100.0, 87.0, 50.0, 1.0, 0.0]),
            vec![100.0, 87.0, 50.0, 1.0, 0.0],
        ),
    ] {
        let levels = grid.levels(&process, expected.len()).unwrap();
        assert_eq!(times(&process, &levels), expected, "{grid:?}");
    }
    let ddim = Grid::Leading { offset: 1 }.levels(&process, 5).unwrap();
    let last = process.level(1.0).unwrap();
    let inverse = ddim.ending_at(last).unwrap().inverse().unwrap();
    assert_eq!(times(&process, &inverse), [1.0, 201.0, 401.0, 601.0]);
    assert_eq!(process.time(inverse.end()), 801.0);
    let sigma = [7.0, 1.0, 0.25];
    let levels = Grid::Sigmas(sigma.to_vec()).levels(&process, 3).unwrap();
    assert_all(&sigmas(&levels)[..3], &sigma, 1e-12);
    // The ends are exact although their σ is rounded.
    let ends = [process.ends().0, process.ends().1].map(NoiseLevel::sigma);
    let levels = Grid::Sigmas(ends.to_vec()).levels(&process, 2).unwrap();
    assert_all(&sigmas(&levels)[..2], &ends, 1e-13);
}
