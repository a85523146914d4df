//! The samplers of k-diffusion and ComfyUI with denoisers that are known in closed form.

use ddpm_schedule::NoiseLevel;
use ddpm_schedule::solver::{
    Adams, Adaptive, AdaptiveSettings, Ancestral, Churn, Consistency, Dpm2, DpmFast, ErSde, Euler,
    Frame, GradientEstimation, Heun, Nodes, SingleStep, Solver, StageNoise, Step, steps,
};

use super::grids::{karras, linspace, ve};
use super::{Check, size};
use crate::scalars::{Run, Said};

/// x̂₀ of N(0.4, 0.5²).
pub(crate) fn gauss(x: f64, sigma: f64) -> f64 {
    let v = sigma * sigma;
    (0.25 * x + 0.4 * v) / (0.25 + v)
}

/// x̂₀ of ½N(−1, 0.2²) + ½N(1, 0.2²).
pub(crate) fn mix(x: f64, sigma: f64) -> f64 {
    let v = 0.04 + sigma * sigma;
    let w = 1.0 / (1.0 + (-2.0 * x / v).exp());
    let of = |mean: f64| (0.04 * x + mean * sigma * sigma) / v;
    w * of(1.0) + (1.0 - w) * of(-1.0)
}

/// A denoiser with a = 1.
pub(crate) fn known(x0: fn(f64, f64) -> f64) -> impl Fn(f64, NoiseLevel) -> Said {
    move |x, at| Said::x0(x0(x, at.sigma()), x, at)
}

/// 16 numbers with the spread of σ = 80.
pub(crate) fn start() -> Vec<f64> {
    let value = |i: usize| 80.0 * 1.7 * (2.0 * (i as f64 + 0.5) / 16.0 - 1.0);
    (0..16).map(value).collect()
}

/// σ from 80 to 0.01 in ten levels, and clean data.
pub(crate) fn levels() -> Vec<NoiseLevel> {
    let sigmas = karras(80.0, 0.01, 10).into_iter().chain([0.0]);
    sigmas.map(ve).collect()
}

const EULER: Euler = Euler { churn: Churn::NONE };
const HEUN: Heun = Heun {
    frame: Frame::Sigma,
    churn: Churn::NONE,
};
const DPM2: Dpm2 = Dpm2 { churn: Churn::NONE };

fn ancestral<S: Solver + 'static>(solver: S, eta: f64) -> Box<dyn Solver> {
    Box::new(Ancestral { solver, eta })
}

fn adams(order: usize, nodes: Nodes, euler_final: bool) -> Box<dyn Solver> {
    Box::new(Adams {
        order,
        nodes,
        euler_final,
    })
}

fn pp(order: usize, noise: StageNoise) -> SingleStep {
    SingleStep::dpm_solver_pp(order, noise)
}

fn er_sde(stages: usize, noise: f64) -> Box<dyn Solver> {
    Box::new(ErSde {
        stages,
        noise,
        ..ErSde::DEFAULT
    })
}

type Case = (&'static str, Box<dyn Solver>, usize, [f64; 4]);

/// Evaluations, then Σ|x| and x₃ with one Gaussian and with two. With noise to 10⁻⁷, because
/// torch's is in single precision.
///
/// Omitted, with the sums of the references:
///
/// - ComfyUI's `ipndm_v` of orders 3 and 4 (8.092 and 8.127 with one Gaussian): a misplaced
///   parenthesis changes its weights from those of the polynomial; those of order 2 agree.
/// - ComfyUI's `heunpp2` (7.086): its weights are σ of the next two levels over σ of the first of
///   the run, so it becomes Euler's method in the limit of short steps, at three evaluations.
#[test]
fn the_samplers_of_k_diffusion() {
    use Nodes::{Equal, Sigma};
    use StageNoise::{Fresh, None, Path};
    #[rustfmt::skip]
    let rows: Vec<Case> = vec![
        ("euler", Box::new(EULER), 10,
         [7.07134952738, 0.0415982114487, 14.5889629191, -0.991781881369]),
        ("heun", Box::new(HEUN), 19,
         [9.30554898037, -0.169415308375, 17.995822403, -1.18239723009]),
        ("dpm_2", Box::new(DPM2), 19,
         [8.83807685501, -0.130868657678, 17.4036804982, -1.12737522698]),
        ("lms 2", adams(2, Sigma, false), 10,
         [7.35875162052, 0.00806069860747, 15.3909353489, -1.03746996849]),
        ("lms 3", adams(3, Sigma, false), 10,
         [7.45369314047, -0.00244709953526, 15.6074919502, -1.04887386951]),
        ("lms 4", adams(4, Sigma, false), 10,
         [7.49904926573, -0.00673829790172, 15.6918515597, -1.0531941744]),
        ("euler_ancestral", ancestral(EULER, 1.0), 10,
         [6.43118569471, 0.643074992373, 13.7615337354, 0.995395727137]),
        ("dpm_2_ancestral", ancestral(DPM2, 1.0), 19,
         [11.2923086176, 1.15497160444, 19.254544105, 1.39777737744]),
        ("dpmpp_2s_ancestral", ancestral(pp(2, None), 1.0), 19,
         [6.9991654125, 0.76137738714, 15.4325818156, 1.08671581815]),
        ("dpmpp_2s_ancestral η 0", ancestral(pp(2, None), 0.0), 19,
         [7.93907964368, -0.048370109005, 16.1155236306, -1.06569239494]),
        ("dpmpp_sde", Box::new(pp(2, Fresh(1.0))), 19,
         [6.85921405868, 0.625765896341, 14.5072577812, 1.0093519256]),
        ("ipndm 2", adams(2, Equal, true), 10,
         [7.91401905788, -0.0459990963967, 16.3439466893, -1.0844069422]),
        ("ipndm 3", adams(3, Equal, true), 10,
         [8.35760240654, -0.0879670583946, 16.6076275952, -1.08549039326]),
        ("ipndm 4", adams(4, Equal, true), 10,
         [8.57037369951, -0.108097610104, 16.4932133671, -1.07243633123]),
        ("ipndm_v 2", adams(2, Sigma, true), 10,
         [7.35808513441, 0.00813847217592, 15.3916587626, -1.03742496796]),
        ("gradient_estimation", Box::new(GradientEstimation { gamma: 2.0 }), 10,
         [8.75014146438, -0.123617712428, 17.2985914707, -1.1219280725]),
        ("er_sde 1", er_sde(1, 1.0), 10,
         [8.0492514822, 0.677554212423, 13.4460841686, 0.916906984445]),
        ("er_sde 2", er_sde(2, 1.0), 10,
         [8.42256153928, 0.725108219415, 15.0353172241, 1.01605554715]),
        ("er_sde 3", er_sde(3, 1.0), 10,
         [8.44730176406, 0.728298398309, 15.1287423852, 1.02141870129]),
        ("er_sde 1 quiet", er_sde(1, 0.0), 10,
         [6.39279278664, 0.313400827019, 9.80436665132, -0.678504538346]),
        ("er_sde 3 quiet", er_sde(3, 0.0), 10,
         [6.39159006204, 0.298949339162, 11.5596391756, -0.78693069552]),
        ("seeds_2", Box::new(pp(2, Path(1.0))), 19,
         [7.61346065758, 0.692499233936, 14.883840597, 1.05046133273]),
        ("seeds_3", Box::new(pp(3, Path(1.0))), 28,
         [9.34865506699, 0.815663640458, 15.1610011464, -0.633803272896]),
        ("seeds_3 η 0", Box::new(pp(3, None)), 28,
         [8.28408066172, -0.0810110763853, 16.4757732771, -1.0840722023]),
        ("lcm", Box::new(Consistency { floor: NoiseLevel::CLEAN }), 10,
         [6.08671622126, 0.53650025699, 12.8155920624, 0.926962938523]),
    ];
    let mut check = Check::new();
    for (name, solver, evaluations, expected) in rows {
        compare(&mut check, name, &*solver, &levels(), evaluations, expected);
    }
    check.done();
}

fn compare(
    check: &mut Check,
    name: &str,
    solver: &dyn Solver,
    levels: &[NoiseLevel],
    evaluations: usize,
    expected: [f64; 4],
) {
    let steps = steps(&solver, levels).expect("steps that tensors can take");
    let stochastic = steps.iter().any(Step::is_stochastic);
    for (denoiser, expected) in [gauss, mix].into_iter().zip(expected.chunks(2)) {
        let mut run = Run::new(solver, known(denoiser));
        let x = run.all(levels, start());
        assert_eq!(run.evaluations, evaluations, "{name}");
        let tolerance = if stochastic { 1e-7 } else { 1e-9 };
        check.relative(name, size(&x), expected[0], tolerance);
        check.close(name, x[3], expected[1], tolerance);
    }
}

/// Equal steps of ln σ, with the requested number of evaluations.
#[test]
fn dpm_solver_fast() {
    let mut check = Check::new();
    #[rustfmt::skip]
    let rows = [
        (9, [10.1521727061, -0.239225907248, 20.3713373028, -1.18927055967]),
        (10, [8.35148138149, -0.087387940744, 15.2805826174, -1.06294598649]),
        (11, [8.4618677579, -0.0978317305396, 15.1879366714, -1.07105211618]),
    ];
    for (evaluations, expected) in rows {
        let logs = linspace(80.0_f64.ln(), 0.01_f64.ln(), evaluations / 3 + 2);
        let levels: Vec<_> = logs.into_iter().map(|x| ve(x.exp())).collect();
        let solver = DpmFast { evaluations };
        compare(
            &mut check,
            "dpm_fast",
            &solver,
            &levels,
            evaluations,
            expected,
        );
    }
    check.done();
}

/// From σ = 80 to 0.01 with adaptive steps.
#[test]
fn dpm_solver_adaptive() {
    let mut check = Check::new();
    #[rustfmt::skip]
    let rows = [
        (2, [30, 36], [8.58148175179, -0.109148556487, 16.652484287, -1.09972127379]),
        (3, [24, 42], [8.80997919616, -0.128551790891, 16.475012978, -1.08598242951]),
    ];
    for (order, evaluations, expected) in rows {
        let cases = [gauss, mix]
            .into_iter()
            .zip(evaluations)
            .zip(expected.chunks(2));
        for ((denoiser, evaluations), expected) in cases {
            let (x, made) = adaptive(order, denoiser);
            assert_eq!(made, evaluations, "order {order}");
            let name = format!("order {order}");
            check.relative(&name, size(&x), expected[0], 1e-9);
            check.close(&name, x[3], expected[1], 1e-9);
        }
    }
    check.done();
}

fn adaptive(order: usize, denoiser: fn(f64, f64) -> f64) -> (Vec<f64>, usize) {
    let mut controller = Adaptive::new(order, AdaptiveSettings::default()).unwrap();
    let (mut t, end) = (ve(80.0), ve(0.01));
    let (mut x, mut previous, mut made) = (start(), start(), 0);
    while let Some(s) = controller.next(t, end) {
        let pair = controller.pair(t, s);
        let mut run = Run::new(&EULER, known(denoiser));
        let [low, high] = run.rows(&pair.asks, [&pair.low, &pair.high], &x);
        made += run.evaluations;
        let squares = low
            .iter()
            .zip(&high)
            .zip(&previous)
            .map(|((low, high), previous)| {
                ((low - high) / controller.tolerance(*low, *previous)).powi(2)
            });
        let error = (squares.sum::<f64>() / low.len() as f64).sqrt();
        if controller.judge(error) {
            (x, previous, t) = (high, low, s);
        }
    }
    (x, made)
}
