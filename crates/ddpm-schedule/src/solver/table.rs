//! The table of solvers: names, facts, and how each is made.

use super::exponential::{Exponential, Interpolant, Weights};
use super::info::{Info, Parameters};
use super::{
    Adams, Ancestral, Bh, Churn, Consistency, Ddim, Ddpm, Dpm2, ErSde, Eta, Euler, Frame,
    GradientEstimation, Heun, Nodes, Pndm, SaSolver, SingleStep, Solver, StageNoise, Tcd, UniPc,
    Variance,
};
use crate::NoiseLevel;

fn order(parameters: &Parameters, published: usize) -> usize {
    parameters.order.map_or(published, |order| order as usize)
}

fn churn(parameters: &Parameters, steps: usize) -> Churn {
    Churn::new(parameters.churn.unwrap_or(0.0), steps)
}

/// A multistep solver that interpolates x̂₀.
fn multistep(order: usize, weights: Weights, noise: f64) -> Box<dyn Solver> {
    Box::new(Exponential {
        interpolant: Interpolant::X0,
        order,
        weights,
        noise,
        lower_order_final: false,
    })
}

/// A multistep solver that interpolates ε̂. Its last steps are of lower order, because ε̂ is not
/// defined at clean data.
fn of_epsilon(order: usize, weights: Weights) -> Box<dyn Solver> {
    Box::new(Exponential {
        interpolant: Interpolant::Epsilon,
        order,
        weights,
        noise: 0.0,
        lower_order_final: true,
    })
}

/// The rows of [`TABLE`]: facts, names in diffusers, k-diffusion and ComfyUI, source, and the solver.
macro_rules! table {
    ($($name:literal, order $order:literal, evaluations $evaluations:literal,
        stochastic $stochastic:literal, steps $steps:literal, parameters $parameters:expr;
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
            parameters: &$parameters,
            make: $make,
        },)*];
    };
}

table! {
    "ddpm", order 1, evaluations 1, stochastic true, steps 1000, parameters [];
        ["DDPMScheduler", "UnCLIPScheduler"], [], ["ddpm"];
        "Ho et al. 2020, eq. 6 and 7";
        |_, _| Box::new(Ddpm { variance: Variance::Small });
    "ddpm-large", order 1, evaluations 1, stochastic true, steps 1000, parameters [];
        [], [], [];
        "Ho et al. 2020, §3.2, σ² = β";
        |_, _| Box::new(Ddpm { variance: Variance::Large });
    "ddpm-learned", order 1, evaluations 1, stochastic true, steps 100, parameters [];
        [], [], [];
        "Nichol & Dhariwal 2021, eq. 15";
        |_, _| Box::new(Ddpm { variance: Variance::Learned });
    "ddim", order 1, evaluations 1, stochastic false, steps 50, parameters ["eta"];
        ["DDIMScheduler", "EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler"], [], ["ddim"];
        "Song et al. 2020, eq. 12 and 16";
        |parameters, _| {
            let eta = Eta::new(parameters.eta.unwrap_or(0.0)).unwrap_or(Eta::ZERO);
            Box::new(Ddim { eta })
        };
    "euler", order 1, evaluations 1, stochastic false, steps 50, parameters ["churn"];
        ["EulerDiscreteScheduler"], ["sample_euler"], ["euler"];
        "Karras et al. 2022, algorithm 2 without its correction";
        |parameters, run| Box::new(Euler { churn: churn(parameters, run.steps) });
    "euler-ancestral", order 1, evaluations 1, stochastic true, steps 50, parameters ["eta"];
        ["EulerAncestralDiscreteScheduler"], ["sample_euler_ancestral"], ["euler_ancestral"];
        "Song et al. 2020, eq. 16, in σ";
        |parameters, _| {
            Box::new(Ancestral { solver: Euler { churn: Churn::NONE },
                eta: parameters.eta.unwrap_or(1.0) })
        };
    "heun", order 2, evaluations 2, stochastic false, steps 18, parameters ["churn"];
        ["HeunDiscreteScheduler"], ["sample_heun"], ["heun"];
        "Karras et al. 2022, algorithms 1 and 2";
        |parameters, run| Box::new(Heun { frame: Frame::Sigma, churn: churn(parameters, run.steps) });
    "heun-flow", order 2, evaluations 2, stochastic false, steps 20, parameters [];
        ["FlowMatchHeunDiscreteScheduler"], [], [];
        "Heun's method in the time of a rectified flow (Liu et al. 2022)";
        |_, _| Box::new(Heun { frame: Frame::Flow, churn: Churn::NONE });
    "dpm2", order 2, evaluations 2, stochastic false, steps 20, parameters ["churn"];
        ["KDPM2DiscreteScheduler"], ["sample_dpm_2"], ["dpm_2"];
        "Karras et al. 2022, app. D.2, with the midpoint in ln σ";
        |parameters, run| Box::new(Dpm2 { churn: churn(parameters, run.steps) });
    "dpm2-ancestral", order 1, evaluations 2, stochastic true, steps 20, parameters ["eta"];
        ["KDPM2AncestralDiscreteScheduler"], ["sample_dpm_2_ancestral"], ["dpm_2_ancestral"];
        "as dpm2, with the noise of DDPM";
        |parameters, _| {
            Box::new(Ancestral { solver: Dpm2 { churn: Churn::NONE },
                eta: parameters.eta.unwrap_or(1.0) })
        };
    "lms", order 4, evaluations 1, stochastic false, steps 30, parameters ["order"];
        ["LMSDiscreteScheduler"], ["sample_lms"], ["lms"];
        "Adams & Bashforth in σ";
        |parameters, _| {
            Box::new(Adams { order: order(parameters, 4), nodes: Nodes::Sigma, euler_final: false })
        };
    "ipndm", order 2, evaluations 1, stochastic false, steps 20, parameters ["order"];
        [], [], ["ipndm"];
        "Zhang & Chen 2022, DEIS, with fixed weights";
        |parameters, _| {
            Box::new(Adams { order: order(parameters, 4), nodes: Nodes::Equal, euler_final: true })
        };
    "ipndm-v", order 4, evaluations 1, stochastic false, steps 20, parameters ["order"];
        [], [], ["ipndm_v"];
        "as ipndm, with weights for steps of different lengths";
        |parameters, _| {
            Box::new(Adams { order: order(parameters, 4), nodes: Nodes::Sigma, euler_final: true })
        };
    "pndm", order 2, evaluations 1, stochastic false, steps 50, parameters [];
        ["PNDMScheduler"], [], [];
        "Liu et al. 2022, PNDM";
        |_, run| {
            let process = run.process.clone();
            let middle = move |t: NoiseLevel,
                s: NoiseLevel| { let time = 0.5 * (process.time(t) + process.time(s));
            process.level(time).unwrap_or(t) };
            Box::new(Pndm { middle })
        };
    "gradient-estimation", order 1, evaluations 1, stochastic false, steps 20, parameters [];
        [], [], ["gradient_estimation"];
        "Permenter & Yuan 2024";
        |_, _| Box::new(GradientEstimation { gamma: 2.0 });
    "dpm-solver", order 2, evaluations 1, stochastic false, steps 20, parameters ["order"];
        ["DPMSolverMultistepScheduler:dpmsolver"], [], [];
        "Lu et al. 2022, DPM-Solver, with evaluations used again";
        |parameters, _| of_epsilon(order(parameters, 2), Weights::Midpoint);
    "dpm-solver-single", order 3, evaluations 3, stochastic false, steps 10, parameters ["order"];
        [], [], [];
        "Lu et al. 2022, DPM-Solver, algorithms 1 and 2";
        |parameters, _| Box::new(SingleStep::dpm_solver(order(parameters, 3)));
    "dpm-adaptive", order 3, evaluations 3, stochastic false, steps 12, parameters ["order", "tolerance"];
        [], ["sample_dpm_adaptive"], ["dpm_adaptive"];
        "Lu et al. 2022, DPM-Solver, app. C: steps by their error";
        |parameters, _| Box::new(SingleStep::dpm_solver(order(parameters, 3)));
    "deis", order 3, evaluations 1, stochastic false, steps 20, parameters ["order"];
        ["DEISMultistepScheduler"], [], [];
        "Zhang & Chen 2022, DEIS";
        |parameters, _| of_epsilon(order(parameters, 3), Weights::Lagrange);
    "dpmpp-2m", order 2, evaluations 1, stochastic false, steps 20, parameters [];
        ["DPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler"],
        ["sample_dpmpp_2m"], ["dpmpp_2m"];
        "Lu et al. 2022, DPM-Solver++, algorithm 2";
        |_, _| multistep(2, Weights::Midpoint, 0.0);
    "dpmpp-2m-sde", order 1, evaluations 1, stochastic true, steps 30, parameters ["eta"];
        [], ["sample_dpmpp_2m_sde"], ["dpmpp_2m_sde"];
        "Lu et al. 2022, DPM-Solver++, app. A";
        |parameters, _| multistep(2, Weights::Midpoint, parameters.eta.unwrap_or(1.0));
    "dpmpp-3m", order 2, evaluations 1, stochastic false, steps 20, parameters [];
        [], [], [];
        "Lu et al. 2022, DPM-Solver++, order 3 with the published D₂";
        |_, _| multistep(3, Weights::Taylor, 0.0);
    "dpmpp-3m-sde", order 1, evaluations 1, stochastic true, steps 30, parameters ["eta"];
        [], ["sample_dpmpp_3m_sde"], ["dpmpp_3m_sde"];
        "as dpmpp-3m, with noise (Crowson, k-diffusion)";
        |parameters, _| multistep(3, Weights::Taylor, parameters.eta.unwrap_or(1.0));
    "dpmpp-2s", order 2, evaluations 2, stochastic false, steps 10, parameters [];
        ["DPMSolverSinglestepScheduler"], [], [];
        "Lu et al. 2022, DPM-Solver++, algorithm 1";
        |_, _| Box::new(SingleStep::dpm_solver_pp(2, StageNoise::None));
    "dpmpp-2s-ancestral", order 1, evaluations 2, stochastic true, steps 20, parameters ["eta"];
        [], ["sample_dpmpp_2s_ancestral"], ["dpmpp_2s_ancestral"];
        "as dpmpp-2s, with the noise of DDPM";
        |parameters, _| {
            Box::new(Ancestral { solver: SingleStep::dpm_solver_pp(2, StageNoise::None),
                eta: parameters.eta.unwrap_or(1.0) })
        };
    "dpmpp-sde", order 1, evaluations 2, stochastic true, steps 20, parameters ["eta"];
        [], ["sample_dpmpp_sde"], ["dpmpp_sde"];
        "DPM-Solver++(2S) with new noise at every stage (Crowson, k-diffusion)";
        |parameters, _| {
            let noise = match parameters.eta.unwrap_or(1.0) { 0.0 => StageNoise::None,
                eta => StageNoise::Fresh(eta) };
            Box::new(SingleStep::dpm_solver_pp(2, noise))
        };
    "res-multistep", order 2, evaluations 1, stochastic false, steps 20, parameters ["eta"];
        [], [], ["res_multistep"];
        "Zhang et al. 2023, RES, of two evaluations";
        |parameters, _| multistep(2, Weights::Taylor, parameters.eta.unwrap_or(0.0));
    "unipc", order 3, evaluations 1, stochastic false, steps 20, parameters ["order"];
        ["UniPCMultistepScheduler"], [], ["uni_pc_bh2"];
        "Zhao et al. 2023, algorithm 1, B₂";
        |parameters, _| {
            Box::new(UniPc { interpolant: Interpolant::X0, order: order(parameters, 2), b: Bh::Bh2,
                lower_order_final: true })
        };
    "sa-solver", order 1, evaluations 1, stochastic true, steps 20, parameters ["eta"];
        ["SASolverScheduler"], [], ["sa_solver"];
        "Xue et al. 2023, algorithm 1";
        |parameters, _| {
            Box::new(SaSolver { predictor: 2, corrector: 2, tau: parameters.eta.unwrap_or(1.0),
                between: [f64::NEG_INFINITY, f64::INFINITY], lower_order_final: true, simple_slope: true })
        };
    "er-sde", order 1, evaluations 1, stochastic true, steps 20, parameters [];
        [], [], ["er_sde"];
        "Cui et al. 2023, ER-SDE 5";
        |_, _| Box::new(ErSde::DEFAULT);
    "seeds-2", order 1, evaluations 2, stochastic true, steps 20, parameters [];
        [], [], ["seeds_2"];
        "Gonzalez et al. 2023, SEEDS";
        |_, _| Box::new(SingleStep::dpm_solver_pp(2, StageNoise::Path(1.0)));
    "seeds-3", order 1, evaluations 3, stochastic true, steps 10, parameters [];
        [], [], ["seeds_3"];
        "Gonzalez et al. 2023, SEEDS";
        |_, _| Box::new(SingleStep::dpm_solver_pp(3, StageNoise::Path(1.0)));
    "lcm", order 1, evaluations 1, stochastic true, steps 4, parameters [];
        ["LCMScheduler"], [], ["lcm"];
        "Luo et al. 2023, algorithm 3; for consistency models";
        |_, _| Box::new(Consistency { floor: NoiseLevel::CLEAN });
    "tcd", order 1, evaluations 1, stochastic true, steps 4, parameters ["eta"];
        ["TCDScheduler"], [], [];
        "Zheng et al. 2024; for trajectory consistency models";
        |parameters, run| {
            let (process, gamma) = (run.process.clone(), parameters.eta.unwrap_or(0.3));
            let below = move |s: NoiseLevel| { if s == NoiseLevel::CLEAN { return s;
            } let time = (1.0 - gamma) * process.time(s);
            process.level(time).unwrap_or(s) };
            Box::new(Tcd { below })
        };
}
