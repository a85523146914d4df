//! The multistep samplers of k-diffusion and ComfyUI with denoisers that are known in closed form.

use ddpm_schedule::solver::{Exponential, Interpolant, Position, SaSolver, Solver, Step, Weights};

use super::known::{gauss, known, levels, mix, start};
use super::{Check, size};
use crate::scalars::Run;

fn multistep(order: usize, weights: Weights, noise: f64) -> Box<dyn Solver> {
    Box::new(Exponential {
        interpolant: Interpolant::X0,
        order,
        weights,
        noise,
        lower_order_final: false,
    })
}

/// SA-Solver with orders that decrease as in ComfyUI: at most as many evaluations as steps follow.
struct Falling(SaSolver);

impl Solver for Falling {
    fn step(&self, at: &Position) -> Step {
        let left = at.left.unwrap_or_default();
        let solver = SaSolver {
            predictor: self.0.predictor.min(left.max(1)),
            corrector: self.0.corrector.min(left),
            ..self.0
        };
        solver.step(at)
    }
}

fn sa(predictor: usize, corrector: usize, tau: f64) -> Box<dyn Solver> {
    Box::new(Falling(SaSolver {
        predictor,
        corrector,
        tau,
        between: [f64::NEG_INFINITY, f64::INFINITY],
        lower_order_final: false,
        simple_slope: false,
    }))
}

/// Σ|x| and the fourth x, for the Gaussian and the mixture, with ten evaluations each. Torch's
/// noise, in single precision, is known to 3·10⁻⁸.
#[test]
fn the_multistep_samplers() {
    use Weights::{Midpoint, Taylor};
    #[rustfmt::skip]
    let rows = [
        ("dpmpp_2m", multistep(2, Midpoint, 0.0), 1e-9,
            [8.83999284483, -0.131026645687, 18.6647056544, -1.22390132754]),
        ("dpmpp_2m_sde midpoint", multistep(2, Midpoint, 1.0), 1e-7,
            [6.91998786065, 0.76242705879, 18.2398710976, 1.25822338528]),
        ("dpmpp_2m_sde heun", multistep(2, Taylor, 1.0), 1e-7,
            [8.53695818531, 0.847894864033, 21.6523483191, 1.43609859413]),
        ("res_multistep", multistep(2, Taylor, 0.0), 1e-9,
            [9.56486303703, -0.190797734878, 20.0112381199, -1.30007943643]),
        ("dpmpp_3m_sde", multistep(3, Taylor, 1.0), 1e-7,
            [11.7614486557, 0.79010702378, 14.3737059111, 0.785318027856]),
        ("dpmpp_3m_sde, η 0", multistep(3, Taylor, 0.0), 1e-9,
            [9.75831472035, -0.206749305163, 16.3309581875, -0.966714744466]),
        ("sa_solver p2 c2", sa(2, 2, 0.0), 1e-9,
            [8.77309978559, -0.125510801536, 18.3544284885, -1.20070808837]),
        ("sa_solver p3 c4", sa(3, 4, 0.0), 1e-9,
            [9.24787155633, -0.164659363802, 19.0754774017, -1.25649884797]),
        ("sa_solver p3 c4, τ 1", sa(3, 4, 1.0), 1e-7,
            [8.83758323257, 0.700345429272, 20.6218965496, 1.25536209247]),
        ("dpmpp_2m_sde, η 0", multistep(2, Midpoint, 0.0), 1e-9,
            [8.83999284483, -0.131026645687, 18.6647056544, -1.22390132754]),
    ];
    let mut check = Check::new();
    for (name, solver, tolerance, expected) in rows {
        for (denoiser, expected) in [gauss, mix].into_iter().zip(expected.chunks(2)) {
            let mut run = Run::new(&*solver, known(denoiser));
            let x = run.all(&levels(), start());
            assert_eq!(run.evaluations, 10, "{name}");
            check.relative(name, size(&x), expected[0], tolerance);
            check.close(name, x[3], expected[1], tolerance);
        }
    }
    check.done();
}
