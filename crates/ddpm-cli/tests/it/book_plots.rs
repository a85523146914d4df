//! The plots of the book's chapters on solvers and weightings, made of what the code computes.
//!
//! `DDPM_WRITE_PAGES=1 cargo test -p ddpm-cli --test it book_plots` writes them.

use std::f64::consts::PI;
use std::sync::LazyLock;

use ddpm_cli::plot::{Line, Scale, svg};
use ddpm_schedule::solver::{Method, Solver, run};
use ddpm_schedule::{
    Grid, Levels, NoiseLevel, NoiseSchedule, Objective, Parametrization, Process, Weighting,
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/book/src/images/");

const COLORS: [&str; 9] = [
    "#999999", "#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
    "#8b4513",
];

/// Writes a plot, or holds the one that is there against it.
fn write_or_compare(name: &str, plot: &str) {
    let path = format!("{FOLDER}{name}");
    if std::env::var_os("DDPM_WRITE_PAGES").is_some() {
        std::fs::write(path, plot).unwrap();
        return;
    }
    let there = std::fs::read_to_string(path).ok();
    let same = there.as_deref() == Some(plot);
    assert!(
        same,
        "{name} is not what the code makes: DDPM_WRITE_PAGES=1 cargo test -p ddpm-cli --test it book_plots"
    );
}

static MIDDLES: LazyLock<Vec<[f64; 2]>> = LazyLock::new(|| moons().concat());

/// The middles of the two moons: half circles of radius 1, with mean 0 and variance 1 in both axes.
fn moons() -> [Vec<[f64; 2]>; 2] {
    let moon = |upper: bool| {
        let point = |i: i32| {
            let (sin, cos) = (PI * (f64::from(i) + 0.5) / 24.0).sin_cos();
            if upper {
                [cos, sin]
            } else {
                [1.0 - cos, 0.5 - sin]
            }
        };
        (0..24).map(point).collect::<Vec<_>>()
    };
    let mut moons = [moon(true), moon(false)];
    for axis in 0..2 {
        let all: Vec<f64> = moons.iter().flatten().map(|p| p[axis]).collect();
        let mean = all.iter().sum::<f64>() / 48.0;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 48.0;
        for point in moons.iter_mut().flatten() {
            point[axis] = (point[axis] - mean) / variance.sqrt();
        }
    }
    moons
}

/// E[x₀ | x] where x₀ is one of the middles plus noise of this standard deviation.
fn denoised(x: &[f64], at: NoiseLevel) -> Vec<f64> {
    const WIDTH: f64 = 0.1;
    let (a, b) = (at.signal(), at.noise());
    let v = (a * WIDTH).powi(2) + b * b;
    let gain = a * WIDTH * WIDTH / v;
    let middles = &*MIDDLES;
    let square = |m: &[f64; 2]| (x[0] - a * m[0]).powi(2) + (x[1] - a * m[1]).powi(2);
    let nearest = middles.iter().map(square).fold(f64::INFINITY, f64::min);
    let weight = |m: &[f64; 2]| (-0.5 * (square(m) - nearest) / v).exp();
    let total: f64 = middles.iter().map(weight).sum();
    let mean = |axis: usize| {
        let part = |m: &[f64; 2]| weight(m) / total * (m[axis] + gain * (x[axis] - a * m[axis]));
        middles.iter().map(part).sum()
    };
    vec![mean(0), mean(1)]
}

/// The states from `start` on.
fn path(solver: &dyn Solver, levels: &Levels, start: [f64; 2]) -> Vec<(f64, f64)> {
    let levels = levels.as_slice();
    let state = |n: usize| {
        let x = start.to_vec();
        let none = |_| unreachable!("a sampler without noise");
        let x = if n == 1 {
            x
        } else {
            run(&solver, &levels[..n], x, denoised, none).unwrap()
        };
        (x[0], x[1])
    };
    (1..=levels.len()).map(state).collect()
}

#[test]
fn paths_to_two_moons() {
    let process = Process::vp_linear(0.1, 20.0).unwrap();
    let starts = [
        [1.9, 1.0],
        [-1.6, 0.9],
        [-1.0, -1.3],
        [0.5, 1.5],
        [1.3, -1.2],
    ];
    let mut lines = Vec::new();
    let mut ends = Vec::new();
    for (name, method, steps) in [
        ("exact", "heun", 100),
        ("ddim", "ddim", 10),
        ("dpmpp-2m", "dpmpp-2m", 10),
    ] {
        let levels = Grid::LogSnr.levels(&process, steps).unwrap();
        let solver = method.parse::<Method>().unwrap().solver(&process, &levels);
        let paths: Vec<_> = starts.map(|start| path(&solver, &levels, start)).into();
        ends.push(
            paths
                .iter()
                .map(|path| path[path.len() - 1])
                .collect::<Vec<_>>(),
        );
        lines.push((name, paths));
    }
    let distance = |from: usize| -> f64 {
        let pairs = ends[from].iter().zip(&ends[0]);
        pairs.map(|(a, b)| (a.0 - b.0).hypot(a.1 - b.1)).sum()
    };
    assert!(
        distance(2) < 0.5 * distance(1),
        "{} {}",
        distance(1),
        distance(2)
    );

    let mut shown = Vec::new();
    // The names come first, since each line of the legend moves the next to the right.
    for first in [true, false] {
        for (i, (name, paths)) in lines.iter().enumerate() {
            let of_name = if first { &paths[..1] } else { &paths[1..] };
            shown.extend(of_name.iter().map(|points| Line {
                name: if first { name } else { "" },
                color: COLORS[i + 1],
                points: points.clone(),
            }));
        }
    }
    shown.extend(moons().map(|moon| Line {
        name: "",
        color: COLORS[0],
        points: moon.into_iter().map(|[x, y]| (x, y)).collect(),
    }));
    let plot = svg("two moons (gray)", &shown, [Scale::Linear; 2]);
    write_or_compare("solver-paths.svg", &plot);
}

#[test]
fn weights_over_the_log_snr() {
    // The weight on the output of ε is that on x̂₀ divided by the SNR.
    let sigmas = [0.0025, 400.0];
    let process = Process::edm(sigmas[0], sigmas[1]).unwrap();
    let sigma_data = 0.5;
    let weightings = [
        ("simple", Weighting::Simple),
        ("min-snr", Weighting::MinSnr { gamma: 5.0 }),
        ("soft-min-snr", Weighting::SoftMinSnr { gamma: 5.0 }),
        ("p2", Weighting::P2 { k: 1.0, gamma: 1.0 }),
        ("edm", Weighting::Edm { sigma_data }),
        ("debiased", Weighting::Debiased),
        ("sigmoid", Weighting::Sigmoid { bias: 2.0 }),
    ];
    let mut lines: Vec<_> = weightings
        .into_iter()
        .zip(&COLORS[1..])
        .map(|((name, weighting), color)| {
            let epsilon = Parametrization::Epsilon;
            let objective = Objective::new(process.clone(), epsilon, weighting).unwrap();
            let point = |i: i32| {
                let lambda = f64::from(i) / 5.0;
                let level = NoiseLevel::variance_exploding((-0.5 * lambda).exp()).unwrap();
                (lambda, objective.weight(level))
            };
            let points = (-50..=50).map(point).collect();
            Line {
                name,
                color,
                points,
            }
        })
        .collect();
    // The bound's weights are those of the steps of a schedule: here DDPM's own.
    let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap();
    let levels: Vec<_> = schedule.iter().map(|t| schedule.level(t)).collect();
    let epsilon = Parametrization::Epsilon;
    let bound = Objective::new(schedule, epsilon, Weighting::Vlb).unwrap();
    let point = |&level: &NoiseLevel| (level.log_snr(), bound.weight(level));
    lines.push(Line {
        name: "vlb",
        color: COLORS[8],
        points: levels.iter().rev().step_by(20).map(point).collect(),
    });
    let plot = svg("λ = ln SNR", &lines, [Scale::Linear, Scale::Log]);
    write_or_compare("weightings.svg", &plot);
}
