//! docs/solvers.md: the error of every sampler against the number of network evaluations, for data
//! with a known exact denoiser.
//!
//! The data is the Gaussian N(0.4, 0.5²), for which the law of a sampler's output is exact: the
//! denoiser is affine, so x is represented by its mean and its factor of every independent noise.
//! The other data is the mixture ½N(−1, 0.2²) + ½N(1, 0.2²), for which the samplers without noise
//! are compared with the exact flow.
//! `DDPM_WRITE_PAGES=1 cargo test -p ddpm-cli --test it solver_page` writes the page and the
//! plot.

use std::fmt::Write;

use ddpm_cli::plot::{Line, Scale, svg};
use ddpm_schedule::solver::{Info, Method, Solver, run, steps};
use ddpm_schedule::{Grid, GridOptions, Levels, NoiseLevel, Process};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/solvers.md");
const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/images/solvers.svg");

const SOLVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ddpm-schedule/src/solver");

/// Numbers of evaluations for which errors are shown; the order is measured between the last two.
const BUDGETS: [u32; 6] = [6, 12, 24, 48, 96, 192];
/// Mean and standard deviation of the Gaussian.
const GAUSSIAN: (f64, f64) = (0.4, 0.5);
/// The mixture's standard deviation, around ±1.
const WIDTH: f64 = 0.2;

fn process() -> Process {
    Process::edm(0.01, 80.0).unwrap()
}

/// Karras' grid that ends at σ = 0.01: a step to clean data is of first order for every solver.
fn levels(steps: u32) -> Levels {
    let process = process();
    let end = Some(process.ends().1);
    let options = GridOptions {
        end,
        ..GridOptions::default()
    };
    let grid = Grid::Karras { rho: 7.0 };
    grid.levels_with(&process, steps as usize, options).unwrap()
}

/// A solver whose steps take at most `budget` evaluations.
fn within(method: Method, budget: u32) -> (Box<dyn Solver>, Levels, usize) {
    let mut fitting = None;
    for n in 1..=budget {
        let levels = levels(n);
        let solver = method.solver(&process(), &levels);
        let made = steps(&solver, levels.as_slice()).unwrap();
        let evaluations: usize = made.iter().map(|step| step.asks.len()).sum();
        if evaluations > budget as usize {
            break;
        }
        fitting = Some((solver, levels, evaluations));
    }
    fitting.expect("one step fits")
}

/// The Wasserstein distance between the sampler's Gaussian and the exact one at the last level:
/// √((m − m')² + (s − s')²).
fn of_law(solver: &dyn Solver, levels: &Levels) -> f64 {
    let (mean, std) = GAUSSIAN;
    let total = |at: NoiseLevel| std * std + at.sigma().powi(2);
    // The mean, the factor of the first noise, and the factors of the noises of the steps.
    let room = 2 + 4 * levels.len();
    let mut x = vec![0.0; room];
    (x[0], x[1]) = (mean, total(levels.start()).sqrt());
    let denoiser = |x: &[f64], at: NoiseLevel| {
        let gain = std * std / total(at);
        let mut x0: Vec<f64> = x.iter().map(|x| gain * x).collect();
        x0[0] += mean * (1.0 - gain);
        x0
    };
    let mut drawn = 1;
    let noise = |_| {
        drawn += 1;
        let mut z = vec![0.0; room];
        z[drawn] = 1.0;
        z
    };
    let x = run(&solver, levels.as_slice(), x, denoiser, noise).unwrap();
    let spread = x[1..].iter().map(|c| c * c).sum::<f64>().sqrt();
    (x[0] - mean).hypot(spread - total(levels.end()).sqrt())
}

/// E[x₀ | x] of the mixture in σ-space.
fn mixture(x: f64, at: NoiseLevel) -> f64 {
    let sigma2 = at.sigma().powi(2);
    let v = WIDTH * WIDTH + sigma2;
    let w = 1.0 / (1.0 + (-2.0 * x / v).exp());
    let part = |mean: f64| (WIDTH * WIDTH * x + sigma2 * mean) / v;
    w * part(1.0) + (1.0 - w) * part(-1.0)
}

/// The ends of `solver`'s paths from sixteen starts.
fn ends(solver: &dyn Solver, levels: &Levels) -> Vec<f64> {
    let starts = (0..16).map(|i| 80.0 * 1.7 * (2.0 * (f64::from(i) + 0.5) / 16.0 - 1.0));
    let denoiser = |x: &[f64], at| x.iter().map(|&x| mixture(x, at)).collect();
    let none = |_| unreachable!("a sampler without noise");
    run(&solver, levels.as_slice(), starts.collect(), denoiser, none).unwrap()
}

/// The root of the mean square of the difference from the exact flow.
fn of_paths(solver: &dyn Solver, levels: &Levels, exact: &[f64]) -> f64 {
    let found = ends(solver, levels);
    let squares = found
        .iter()
        .zip(exact)
        .map(|(x, exact)| (x - exact).powi(2));
    (squares.sum::<f64>() / exact.len() as f64).sqrt()
}

/// The slope between the last two points (evaluations, error).
fn slope(points: &[(f64, f64)]) -> f64 {
    let [.., (n0, e0), (n1, e1)] = points else {
        panic!("two points")
    };
    (e0 / e1).ln() / (n1 / n0).ln()
}

/// An exact denoiser is not a consistency model. A learned variance has no exact value here. The
/// adaptive solver chooses its number of evaluations itself.
const LEFT_OUT: [&str; 4] = ["lcm", "tcd", "ddpm-learned", "dpm-adaptive"];

#[test]
fn the_page_of_solvers_is_what_they_do() {
    let exact = {
        let levels = levels(4000);
        let heun = "heun".parse::<Method>().unwrap();
        ends(&heun.solver(&process(), &levels), &levels)
    };
    let budgets = BUDGETS.map(|n| format!(" {n} |")).concat();
    let rule = "---|".repeat(BUDGETS.len());
    let head = format!("| sampler | order | observed |{budgets}\n|---|---|---|{rule}\n");
    let (mut gaussian, mut paths) = (head.clone(), head);
    let mut curves: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    for info in Info::all() {
        if LEFT_OUT.contains(&info.name) {
            continue;
        }
        let method: Method = info.name.parse().unwrap();
        let runs = BUDGETS.map(|budget| within(method, budget));
        let errors = |error: &dyn Fn(&dyn Solver, &Levels) -> f64| -> Vec<(f64, f64)> {
            let of_run = |(solver, levels, made): &(Box<dyn Solver>, Levels, usize)| {
                (*made as f64, error(&**solver, levels))
            };
            runs.iter().map(of_run).collect()
        };
        let line = |points: &[(f64, f64)]| {
            let shown = points.iter().map(|(_, error)| format!(" {error:.1e} |"));
            let (name, order) = (info.name, info.order);
            let observed = slope(points);
            let shown: String = shown.collect();
            format!("| {name} | {order} | {observed:.1} |{shown}\n")
        };
        let law = errors(&of_law);
        gaussian += &line(&law);
        if !info.stochastic {
            paths += &line(&errors(&|solver, levels| of_paths(solver, levels, &exact)));
        }
        // Rounding errors have no slope.
        let last = law[law.len() - 1].1;
        let observed = slope(&law);
        assert!(
            last < 1e-9 || observed > f64::from(info.order) - 0.45,
            "{}: order {observed}, not {}",
            info.name,
            info.order
        );
        curves.push((info.name, law));
    }
    let lines = lines_of_solvers();
    let page = format!(
        "{TEXT}\n## On a Gaussian\n\n{gaussian}\n## On a mixture\n\n{TEXT_MIXTURE}\n{paths}\n## Length \
         of the code\n\n{TEXT_LINES}\n{lines}"
    );
    let colors = [
        "#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00",
    ];
    let names = ["ddim", "ddpm", "heun", "dpmpp-2m", "unipc", "deis"];
    let lines: Vec<_> = names
        .iter()
        .zip(colors)
        .map(|(&name, color)| {
            let curve = curves.iter().find(|curve| curve.0 == name).unwrap();
            let points = curve.1.clone();
            Line {
                name,
                color,
                points,
            }
        })
        .collect();
    let plot = svg("network evaluations", &lines, [Scale::Log, Scale::Log]);
    if std::env::var_os("DDPM_WRITE_PAGES").is_some() {
        std::fs::write(PAGE, &page).unwrap();
        std::fs::write(PLOT, &plot).unwrap();
        return;
    }
    let mut differing = String::new();
    for (path, text) in [(PAGE, page), (PLOT, plot)] {
        if std::fs::read_to_string(path).ok().as_ref() != Some(&text) {
            writeln!(differing, "{path}").unwrap();
        }
    }
    assert!(
        differing.is_empty(),
        "write the page again: DDPM_WRITE_PAGES=1 cargo test -p ddpm-cli --test it solver_page\n{differing}"
    );
}

/// The number of lines of each solver's step, from `fn step` to its closing brace, with its file.
fn lines_of_solvers() -> String {
    let mut text = String::from("| solver | file | lines of its step |\n|---|---|---|\n");
    let folder = std::path::Path::new(SOLVERS);
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy();
        for block in source.split("\nimpl").skip(1) {
            let head = block.lines().next().unwrap_or_default();
            let Some((_, solver)) = head.split_once("Solver for ") else {
                continue;
            };
            let solver = solver.split(['<', ' ']).next().unwrap_or_default();
            // Implementations for references and boxes only forward the call.
            if name == "mod.rs" {
                continue;
            }
            let body = block.lines().skip_while(|line| !line.contains("fn step("));
            let lines = body.take_while(|line| *line != "    }").count() + 1;
            writeln!(text, "| `{solver}` | {name} | {lines} |").unwrap();
            assert!(lines <= 50, "{solver} has {lines} lines");
        }
    }
    text
}

const TEXT: &str = "\
# Samplers, by error and cost

Each sampler of `ddpm samplers` is run with an exact denoiser, so that the whole error is that of the
sampler. The levels are σ from 80 to 0.01 by Karras' grid, and the columns are numbers of network
evaluations. *Order* is the theoretical order: twice as many steps divide the error by 2 to this
power. *Observed* is the slope between the last two columns. For samplers with noise the theoretical
order holds for any data; on a Gaussian some of them have a higher one.

A test writes this page: `DDPM_WRITE_PAGES=1 cargo test -p ddpm-cli --test it solver_page`.

How to choose:

- For 10 to 30 evaluations, and the same picture from the same noise: `unipc`, `dpmpp-2m` or `deis`.
- For 30 to 100 evaluations: `heun` and `dpm2`, which are also the most robust if the network's output
  is not smooth.
- With noise, which compensates for errors of the network: `dpmpp-2m-sde`, `er-sde` or `sa-solver`;
  `ddpm`, the sampler of the original paper, with hundreds of evaluations.
- For inversion, interpolation and any number of steps: `ddim`.
- For a given error instead of a given number of steps: `dpm-adaptive`. It is not on this page, and
  neither are `lcm` and `tcd`, which are for consistency models.

![Error against evaluations](images/solvers.svg)

The errors below are Wasserstein distances between the law of the samples and that of the data, for
N(0.4, 0.5²).
";

const TEXT_MIXTURE: &str = "\
For the samplers without noise, the root mean square distance from the exact flow of ½N(−1, 0.2²) +
½N(1, 0.2²) over sixteen starts. The flow has its strongest curvature where paths separate towards the
two modes.
";

const TEXT_LINES: &str = "\
The number of lines of each solver's `step` in `crates/ddpm-schedule/src/solver/`. Solvers of a family
share functions, such as the integral in `exponential.rs`. A solver of your own is as short:
`crates/ddpm-cli/examples/own_solver.rs`.
";
