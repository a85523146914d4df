//! The table of solvers: names, facts, and how each is made.

use super::exponential::{Exponential, Of, Weights};
use super::info::{Info, Numbers};
use super::{
    Adams, Ancestral, Bh, Churn, Consistency, Ddim, Ddpm, Dpm2, ErSde, Eta, Euler, Frame,
    GradientEstimation, Heun, Nodes, Pndm, SaSolver, SingleStep, Solver, StageNoise, Tcd, UniPc,
    Variance,
};
use crate::NoiseLevel;

fn order(numbers: &Numbers, published: usize) -> usize {
    numbers.order.map_or(published, |order| order as usize)
}

fn churn(numbers: &Numbers, steps: usize) -> Churn {
    Churn::new(numbers.churn.unwrap_or(0.0), steps)
}

/// A multistep solver of x̂₀.
fn multistep(order: usize, weights: Weights, noise: f64) -> Box<dyn Solver> {
    Box::new(Exponential {
        of: Of::X0,
        order,
        weights,
        noise,
        lower_order_final: false,
    })
}

/// A multistep solver of ε̂, whose last steps are of lower order, for clean data has none.
fn of_epsilon(order: usize, weights: Weights) -> Box<dyn Solver> {
    Box::new(Exponential {
        of: Of::Epsilon,
        order,
        weights,
        noise: 0.0,
        lower_order_final: true,
    })
}

/// The rows of [`TABLE`]: facts, names in diffusers, k-diffusion and ComfyUI, source, and the solver.
macro_rules! table {
    ($($name:literal, order $order:literal, evaluations $evaluations:literal,
        stochastic $stochastic:literal, steps $steps:literal, numbers $numbers:expr;
        $diffusers:expr, $k_diffusion:expr, $comfyui:expr;
        $paper:literal;
        $make:expr;)*) => {
        /// Every solver.
        pub(super) const TABLE: &[Info] = &[$(Info {
            name: $name,
            diffusers: &$diffusers,
            k_diffusion: &$k_diffusion,
            comfyui: &$comfyui,
            order: $order,
            evaluations: $evaluations,
            stochastic: $stochastic,
            steps: $steps,
            paper: $paper,
            numbers: &$numbers,
            make: $make,
        },)*];
    };
}

table! {
    "ddpm", order 1, evaluations 1, stochastic true, steps 1000, numbers [];
        ["DDPMScheduler", "UnCLIPScheduler"], [], ["ddpm"];
        "Ho et al. 2020, eq. 6 and 7";
        |_, _| Box::new(Ddpm { variance: Variance::Small });
    "ddpm-large", order 1, evaluations 1, stochastic true, steps 1000, numbers [];
        [], [], [];
        "Ho et al. 2020, §3.2, σ² = β";
        |_, _| Box::new(Ddpm { variance: Variance::Large });
    "ddpm-learned", order 1, evaluations 1, stochastic true, steps 100, numbers [];
        [], [], [];
        "Nichol & Dhariwal 2021, eq. 15";
        |_, _| Box::new(Ddpm { variance: Variance::Learned });
    "ddim", order 1, evaluations 1, stochastic false, steps 50, numbers ["eta"];
        ["DDIMScheduler", "EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler"], [], ["ddim"];
        "Song et al. 2020, eq. 12 and 16";
        |numbers, _| {
            let eta = Eta::new(numbers.eta.unwrap_or(0.0)).unwrap_or(Eta::ZERO);
            Box::new(Ddim { eta })
        };
    "euler", order 1, evaluations 1, stochastic false, steps 50, numbers ["churn"];
        ["EulerDiscreteScheduler"], ["sample_euler"], ["euler"];
        "Karras et al. 2022, algorithm 2 without its correction";
        |numbers, way| Box::new(Euler { churn: churn(numbers, way.steps) });
    "euler-ancestral", order 1, evaluations 1, stochastic true, steps 50, numbers ["eta"];
        ["EulerAncestralDiscreteScheduler"], ["sample_euler_ancestral"], ["euler_ancestral"];
        "Song et al. 2020, eq. 16, in σ";
        |numbers, _| {
            Box::new(Ancestral { solver: Euler { churn: Churn::NONE },
                eta: numbers.eta.unwrap_or(1.0) })
        };
    "heun", order 2, evaluations 2, stochastic false, steps 18, numbers ["churn"];
        ["HeunDiscreteScheduler"], ["sample_heun"], ["heun"];
        "Karras et al. 2022, algorithms 1 and 2";
        |numbers, way| Box::new(Heun { frame: Frame::Sigma, churn: churn(numbers, way.steps) });
    "heun-flow", order 2, evaluations 2, stochastic false, steps 20, numbers [];
        ["FlowMatchHeunDiscreteScheduler"], [], [];
        "Heun's method in the time of a rectified flow (Liu et al. 2022)";
        |_, _| Box::new(Heun { frame: Frame::Flow, churn: Churn::NONE });
    "dpm2", order 2, evaluations 2, stochastic false, steps 20, numbers ["churn"];
        ["KDPM2DiscreteScheduler"], ["sample_dpm_2"], ["dpm_2"];
        "Karras et al. 2022, app. D.2, with the midpoint in ln σ";
        |numbers, way| Box::new(Dpm2 { churn: churn(numbers, way.steps) });
    "dpm2-ancestral", order 1, evaluations 2, stochastic true, steps 20, numbers ["eta"];
        ["KDPM2AncestralDiscreteScheduler"], ["sample_dpm_2_ancestral"], ["dpm_2_ancestral"];
        "as dpm2, with the noise of DDPM";
        |numbers, _| {
            Box::new(Ancestral { solver: Dpm2 { churn: Churn::NONE },
                eta: numbers.eta.unwrap_or(1.0) })
        };
    "lms", order 4, evaluations 1, stochastic false, steps 30, numbers ["order"];
        ["LMSDiscreteScheduler"], ["sample_lms"], ["lms"];
        "Adams & Bashforth in σ";
        |numbers, _| {
            Box::new(Adams { order: order(numbers, 4), nodes: Nodes::Sigma, euler_final: false })
        };
    "ipndm", order 2, evaluations 1, stochastic false, steps 20, numbers ["order"];
        [], [], ["ipndm"];
        "Zhang & Chen 2022, DEIS, with fixed weights";
        |numbers, _| {
            Box::new(Adams { order: order(numbers, 4), nodes: Nodes::Equal, euler_final: true })
        };
    "ipndm-v", order 4, evaluations 1, stochastic false, steps 20, numbers ["order"];
        [], [], ["ipndm_v"];
        "as ipndm, with weights for steps of different lengths";
        |numbers, _| {
            Box::new(Adams { order: order(numbers, 4), nodes: Nodes::Sigma, euler_final: true })
        };
    "pndm", order 2, evaluations 1, stochastic false, steps 50, numbers [];
        ["PNDMScheduler"], [], [];
        "Liu et al. 2022, PNDM";
        |_, way| {
            let process = way.process.clone();
            let middle = move |t: NoiseLevel,
                s: NoiseLevel| { let time = 0.5 * (process.time(t) + process.time(s));
            process.level(time).unwrap_or(t) };
            Box::new(Pndm { middle })
        };
    "gradient-estimation", order 1, evaluations 1, stochastic false, steps 20, numbers [];
        [], [], ["gradient_estimation"];
        "Permenter & Yuan 2024";
        |_, _| Box::new(GradientEstimation { gamma: 2.0 });
    "dpm-solver", order 2, evaluations 1, stochastic false, steps 20, numbers ["order"];
        ["DPMSolverMultistepScheduler:dpmsolver"], [], [];
        "Lu et al. 2022, DPM-Solver, with evaluations used again";
        |numbers, _| of_epsilon(order(numbers, 2), Weights::Midpoint);
    "dpm-solver-single", order 3, evaluations 3, stochastic false, steps 10, numbers ["order"];
        [], [], [];
        "Lu et al. 2022, DPM-Solver, algorithms 1 and 2";
        |numbers, _| Box::new(SingleStep::dpm_solver(order(numbers, 3)));
    "dpm-adaptive", order 3, evaluations 3, stochastic false, steps 12, numbers ["order", "tolerance"];
        [], ["sample_dpm_adaptive"], ["dpm_adaptive"];
        "Lu et al. 2022, DPM-Solver, app. C: steps by their error";
        |numbers, _| Box::new(SingleStep::dpm_solver(order(numbers, 3)));
    "deis", order 3, evaluations 1, stochastic false, steps 20, numbers ["order"];
        ["DEISMultistepScheduler"], [], [];
        "Zhang & Chen 2022, DEIS";
        |numbers, _| of_epsilon(order(numbers, 3), Weights::Lagrange);
    "dpmpp-2m", order 2, evaluations 1, stochastic false, steps 20, numbers [];
        ["DPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler"],
        ["sample_dpmpp_2m"], ["dpmpp_2m"];
        "Lu et al. 2022, DPM-Solver++, algorithm 2";
        |_, _| multistep(2, Weights::Midpoint, 0.0);
    "dpmpp-2m-sde", order 1, evaluations 1, stochastic true, steps 30, numbers ["eta"];
        [], ["sample_dpmpp_2m_sde"], ["dpmpp_2m_sde"];
        "Lu et al. 2022, DPM-Solver++, app. A";
        |numbers, _| multistep(2, Weights::Midpoint, numbers.eta.unwrap_or(1.0));
    "dpmpp-3m", order 2, evaluations 1, stochastic false, steps 20, numbers [];
        [], [], [];
        "Lu et al. 2022, DPM-Solver++, order 3 with the published D₂";
        |_, _| multistep(3, Weights::Taylor, 0.0);
    "dpmpp-3m-sde", order 1, evaluations 1, stochastic true, steps 30, numbers ["eta"];
        [], ["sample_dpmpp_3m_sde"], ["dpmpp_3m_sde"];
        "as dpmpp-3m, with noise (Crowson, k-diffusion)";
        |numbers, _| multistep(3, Weights::Taylor, numbers.eta.unwrap_or(1.0));
    "dpmpp-2s", order 2, evaluations 2, stochastic false, steps 10, numbers [];
        ["DPMSolverSinglestepScheduler"], [], [];
        "Lu et al. 2022, DPM-Solver++, algorithm 1";
        |_, _| Box::new(SingleStep::dpm_solver_pp(2, StageNoise::None));
    "dpmpp-2s-ancestral", order 1, evaluations 2, stochastic true, steps 20, numbers ["eta"];
        [], ["sample_dpmpp_2s_ancestral"], ["dpmpp_2s_ancestral"];
        "as dpmpp-2s, with the noise of DDPM";
        |numbers, _| {
            Box::new(Ancestral { solver: SingleStep::dpm_solver_pp(2, StageNoise::None),
                eta: numbers.eta.unwrap_or(1.0) })
        };
    "dpmpp-sde", order 1, evaluations 2, stochastic true, steps 20, numbers ["eta"];
        [], ["sample_dpmpp_sde"], ["dpmpp_sde"];
        "DPM-Solver++(2S) with new noise at every stage (Crowson, k-diffusion)";
        |numbers, _| {
            let noise = match numbers.eta.unwrap_or(1.0) { 0.0 => StageNoise::None,
                eta => StageNoise::Fresh(eta) };
            Box::new(SingleStep::dpm_solver_pp(2, noise))
        };
    "res-multistep", order 2, evaluations 1, stochastic false, steps 20, numbers ["eta"];
        [], [], ["res_multistep"];
        "Zhang et al. 2023, RES, of two evaluations";
        |numbers, _| multistep(2, Weights::Taylor, numbers.eta.unwrap_or(0.0));
    "unipc", order 3, evaluations 1, stochastic false, steps 20, numbers ["order"];
        ["UniPCMultistepScheduler"], [], ["uni_pc_bh2"];
        "Zhao et al. 2023, algorithm 1, B₂";
        |numbers, _| {
            Box::new(UniPc { of: Of::X0, order: order(numbers, 2), b: Bh::Bh2,
                lower_order_final: true })
        };
    "sa-solver", order 1, evaluations 1, stochastic true, steps 20, numbers ["eta"];
        ["SASolverScheduler"], [], ["sa_solver"];
        "Xue et al. 2023, algorithm 1";
        |numbers, _| {
            Box::new(SaSolver { predictor: 2, corrector: 2, tau: numbers.eta.unwrap_or(1.0),
                between: [f64::NEG_INFINITY, f64::INFINITY], lower_order_final: true, simple_slope: true })
        };
    "er-sde", order 1, evaluations 1, stochastic true, steps 20, numbers [];
        [], [], ["er_sde"];
        "Cui et al. 2023, ER-SDE 5";
        |_, _| Box::new(ErSde::DEFAULT);
    "seeds-2", order 1, evaluations 2, stochastic true, steps 20, numbers [];
        [], [], ["seeds_2"];
        "Gonzalez et al. 2023, SEEDS";
        |_, _| Box::new(SingleStep::dpm_solver_pp(2, StageNoise::Path(1.0)));
    "seeds-3", order 1, evaluations 3, stochastic true, steps 10, numbers [];
        [], [], ["seeds_3"];
        "Gonzalez et al. 2023, SEEDS";
        |_, _| Box::new(SingleStep::dpm_solver_pp(3, StageNoise::Path(1.0)));
    "lcm", order 1, evaluations 1, stochastic true, steps 4, numbers [];
        ["LCMScheduler"], [], ["lcm"];
        "Luo et al. 2023, algorithm 3; for consistency models";
        |_, _| Box::new(Consistency { floor: NoiseLevel::CLEAN });
    "tcd", order 1, evaluations 1, stochastic true, steps 4, numbers ["eta"];
        ["TCDScheduler"], [], [];
        "Zheng et al. 2024; for trajectory consistency models";
        |numbers, way| {
            let (process, gamma) = (way.process.clone(), numbers.eta.unwrap_or(0.3));
            let below = move |s: NoiseLevel| { if s == NoiseLevel::CLEAN { return s;
            } let time = (1.0 - gamma) * process.time(s);
            process.level(time).unwrap_or(s) };
            Box::new(Tcd { below })
        };
}
