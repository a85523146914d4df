//! Converts levels and sampler to the file of an equivalent class of diffusers.

use ddpm_process::{AfterClip, Clip};
use ddpm_schedule::solver::{Method, Row, Step, steps};
use ddpm_schedule::{Grid, Levels, NoiseLevel, Objective, Parametrization, Process};
use serde_json::{Value, json};

use super::scheduler::Scheduler;
use crate::diffusers::version::VERSION;

/// The allowed difference of a step that is read back. The β of a schedule have a relative error of
/// 10⁻¹¹, and the errors of a thousand of them add up.
const TOLERANCE: f64 = 1e-7;

/// Classes that `DDPMPipeline` can run. Its loop scales neither the network's input nor the first
/// x, and passes a generator to every step.
const OF_PIPELINES: [&str; 8] = [
    "DDPMScheduler",
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "LCMScheduler",
    "TCDScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
];

/// Classes that clip only by `thresholding`.
const THRESHOLDS: [&str; 3] = [
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "EDMDPMSolverMultistepScheduler",
];

/// How a sampler draws from a network, to be written as a file of diffusers.
#[derive(Clone, Debug)]
pub struct Sampled<'a> {
    /// The process and the network's prediction.
    pub objective: &'a Objective,
    /// The β of a schedule of timesteps; `None` for other processes, and for a schedule that does
    /// not preserve variance.
    pub betas: Option<Betas>,
    /// Whether the network has a second output per value of a row, for its variance.
    pub learned_variance: bool,
    /// The sampler, if it is in the table of samplers.
    pub method: Option<&'a Method>,
    /// The grid of the levels.
    pub grid: Grid,
    /// The number of steps of the grid.
    pub steps: u32,
    /// The levels.
    pub levels: &'a Levels,
    /// The range to which x̂₀ is clipped.
    pub clip: Option<Clip>,
    /// The ε̂ that is used after x̂₀ is clipped.
    pub epsilon: AfterClip,
}

/// β of a schedule, as diffusers describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Betas {
    /// diffusers' name: `linear`, `scaled_linear` or `squaredcos_cap_v2`.
    pub name: &'static str,
    /// β₁.
    pub start: f64,
    /// β_T.
    pub end: f64,
    /// The β themselves, if diffusers has no name for them.
    pub trained: Option<Vec<f64>>,
    /// Whether they are rescaled to zero terminal SNR.
    pub rescaled: bool,
}

/// A run's levels and sampler in diffusers.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The `scheduler_config.json`.
    pub file: Value,
    /// The file of a scheduler that `DDPMPipeline` can run: the same file, or that of the simplest
    /// class of the process; `None` if it can run no class of the process.
    pub of_pipeline: Option<Value>,
    /// How the file samples differently from the run, if it does.
    pub note: Option<String>,
}

/// The `scheduler_config.json` with which diffusers samples in the same way: the same levels, by
/// name or as `trained_betas`, the same target and clip, and the class of the sampler with its
/// settings.
///
/// If no class takes the same steps, the file is that of the simplest class of the process, with a
/// note: DDPM with the variance β̃, or Euler's method of EDM or of a flow. This includes DDIM with
/// noise, because in diffusers η is an argument of a call and not a key.
///
/// # Errors
///
/// If diffusers has no class for the process and the prediction of the network.
pub fn config(plan: &Sampled) -> Result<Exported, String> {
    let plainest = plainest(plan)?;
    let (file, note) = match closest(plan, &plainest) {
        Ok(file) => {
            let note = other_clip(plan, &file);
            (file, note)
        }
        Err(reason) => {
            let (class, sampler) = (name(&plainest), sampler_name(plan));
            let note = format!("the scheduler is a {class}, not {sampler}: {reason}");
            (plainest.clone(), Some(note))
        }
    };
    let runs = |file: &&Value| OF_PIPELINES.contains(&name(file));
    let of_pipeline = [&file, &plainest].into_iter().find(runs).cloned();
    Ok(Exported {
        file,
        of_pipeline,
        note,
    })
}

/// The file that takes the plan's steps, or the reason why there is none.
fn closest(plan: &Sampled, plainest: &Value) -> Result<Value, String> {
    let mut class = class(plan).ok_or("diffusers has no class for it")?;
    if plan.clip == Some(Clip::UNIT) && THRESHOLDS.contains(&name(&class)) {
        // Thresholding with a maximum of 1 is a clip to ±1, and these classes have no other clip.
        let clip = json!({ "thresholding": true, "sample_max_value": 1.0 });
        class = merged(&class, &[&clip]);
    }
    let files = grids(plan).into_iter();
    let files = files.map(|grid| merged(plainest, &[&class, &grid]));
    let mut reason = None;
    for file in files {
        match same_steps(plan, &file) {
            Ok(()) => return Ok(file),
            Err(different) => reason = reason.or(Some(different)),
        }
    }
    Err(reason.unwrap_or_default())
}

/// How a class clips differently from the plan, if it does.
fn other_clip(plan: &Sampled, file: &Value) -> Option<String> {
    let class = name(file);
    let found = Scheduler::parse(&file.to_string(), class).ok()?;
    plan.clip?;
    if found.clip.is_none() {
        return Some(format!("the run clips x̂₀, but a {class} does not clip it"));
    }
    let ddim = class == "DDIMScheduler" && found.epsilon != plan.epsilon;
    ddim.then(|| {
        format!("a {class} keeps the network's own ε̂ after x̂₀ is clipped, but the run does not")
    })
}

/// The class of a file.
fn name(file: &Value) -> &str {
    file["_class_name"].as_str().unwrap_or_default()
}

/// The sampler's name in the table.
fn sampler_name(plan: &Sampled) -> &'static str {
    plan.method
        .map_or("a file's own", |method| method.info().name)
}

/// The file of the simplest class of the process.
fn plainest(plan: &Sampled) -> Result<Value, String> {
    let parametrization = plan.objective.parametrization();
    let own = match (plan.objective.process(), parametrization) {
        (
            Process::Edm {
                sigma_min,
                sigma_max,
                ..
            },
            Parametrization::Edm { sigma_data },
        ) => json!({
            "_class_name": "EDMEulerScheduler",
            "sigma_min": sigma_min,
            "sigma_max": sigma_max,
            "sigma_data": sigma_data,
            "sigma_schedule": "karras",
            "rho": 7.0,
            "prediction_type": "epsilon",
            "num_train_timesteps": 1000,
            "final_sigmas_type": "zero",
        }),
        (Process::Flow { shift, .. }, Parametrization::Flow) => json!({
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "shift": shift,
            "num_train_timesteps": 1000,
        }),
        (
            Process::Discrete(schedule),
            Parametrization::Epsilon | Parametrization::X0 | Parametrization::V,
        ) => {
            let Some(betas) = &plan.betas else {
                let reason =
                    "kind = \"random-walk\" does not preserve variance, as a DDPMScheduler does";
                return Err(reason.to_owned());
            };
            ddpm(plan, betas, schedule.timesteps())
        }
        _ => {
            let reason = "diffusers has no scheduler for this process and parametrization";
            return Err(reason.to_owned());
        }
    };
    Ok(merged(&own, &[&json!({ "_diffusers_version": VERSION })]))
}

/// A `DDPMScheduler`'s file.
fn ddpm(plan: &Sampled, betas: &Betas, timesteps: u32) -> Value {
    // The key tells diffusers that the network has a second output, whatever the sampler.
    let variance = match sampler_name(plan) {
        _ if plan.learned_variance => "learned_range",
        "ddpm-large" => "fixed_large",
        _ => "fixed_small",
    };
    json!({
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": timesteps,
        "beta_schedule": betas.name,
        "beta_start": betas.start,
        "beta_end": betas.end,
        "trained_betas": betas.trained,
        "rescale_betas_zero_snr": betas.rescaled,
        "prediction_type": prediction_type(plan.objective.parametrization()),
        "variance_type": variance,
        "clip_sample": plan.clip.is_some(),
        "clip_sample_range": 1.0,
        "thresholding": false,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "timestep_spacing": "trailing",
        "steps_offset": 0,
    })
}

/// The class of the sampler, with its own keys; `None` if there is none.
fn class(plan: &Sampled) -> Option<Value> {
    let method = plan.method?;
    let name = method.info().name;
    match plan.objective.process() {
        Process::Discrete(_) => of_schedule(name, method),
        Process::Edm { .. } => of_edm(name, method),
        Process::Flow { .. } => of_flow(name),
        _ => None,
    }
}

fn of_schedule(name: &str, method: &Method) -> Option<Value> {
    let order = |published: u32| method.parameters().order.unwrap_or(published);
    let multistep = |order: u32, algorithm: &str| {
        json!({
            "_class_name": "DPMSolverMultistepScheduler",
            "solver_order": order,
            "algorithm_type": algorithm,
            "lower_order_final": false,
        })
    };
    let exact = json!({ "solver_type": "heun" });
    Some(match name {
        "ddpm" | "ddpm-large" | "ddpm-learned" => json!({}),
        "ddim" => json!({ "_class_name": "DDIMScheduler", "set_alpha_to_one": true }),
        "pndm" => json!({ "_class_name": "PNDMScheduler", "set_alpha_to_one": true }),
        "euler" => json!({ "_class_name": "EulerDiscreteScheduler" }),
        "euler-ancestral" => json!({ "_class_name": "EulerAncestralDiscreteScheduler" }),
        "heun" => json!({ "_class_name": "HeunDiscreteScheduler" }),
        "dpm2" => json!({ "_class_name": "KDPM2DiscreteScheduler" }),
        "dpm2-ancestral" => json!({ "_class_name": "KDPM2AncestralDiscreteScheduler" }),
        "lms" => json!({ "_class_name": "LMSDiscreteScheduler" }),
        "dpmpp-2m" => multistep(2, "dpmsolver++"),
        "dpmpp-2m-sde" => multistep(2, "sde-dpmsolver++"),
        // With noise, diffusers has a wrong sign in the third order.
        "dpmpp-3m" => merged(&multistep(3, "dpmsolver++"), &[&exact]),
        "res-multistep" => merged(&multistep(2, "dpmsolver++"), &[&exact]),
        "unipc" => json!({
            "_class_name": "UniPCMultistepScheduler",
            "solver_order": order(2),
            "solver_type": "bh2",
        }),
        "lcm" => json!({ "_class_name": "LCMScheduler" }),
        _ => return None,
    })
}

fn of_edm(name: &str, method: &Method) -> Option<Value> {
    let (order, algorithm) = match name {
        "euler" | "ddim" if !method.is_stochastic() => return Some(json!({})),
        "dpmpp-2m" => (2, "dpmsolver++"),
        "dpmpp-2m-sde" => (2, "sde-dpmsolver++"),
        "dpmpp-3m" => (3, "dpmsolver++"),
        _ => return None,
    };
    Some(json!({
        "_class_name": "EDMDPMSolverMultistepScheduler",
        "solver_order": order,
        "algorithm_type": algorithm,
        "lower_order_final": false,
        // The third order starts with a step of second order.
        "solver_type": if order == 3 { "heun" } else { "midpoint" },
    }))
}

fn of_flow(name: &str) -> Option<Value> {
    Some(match name {
        "euler" | "ddim" => json!({}),
        "heun-flow" => json!({ "_class_name": "FlowMatchHeunDiscreteScheduler" }),
        "lcm" => json!({ "_class_name": "FlowMatchLCMScheduler" }),
        _ => return None,
    })
}

/// The keys with which a class may have the plan's grid.
fn grids(plan: &Sampled) -> Vec<Value> {
    let rho = match plan.grid {
        Grid::Karras { rho } => rho,
        _ => 7.0,
    };
    match plan.grid.name() {
        "leading" => vec![json!({ "timestep_spacing": "leading" })],
        "linspace" => vec![json!({ "timestep_spacing": "linspace" }), json!({})],
        "karras" => vec![
            json!({ "use_karras_sigmas": true }),
            json!({ "sigma_schedule": "karras", "rho": rho }),
        ],
        "exponential" | "log-snr" => vec![
            json!({ "use_exponential_sigmas": true }),
            json!({ "sigma_schedule": "exponential" }),
        ],
        "beta-sigma" => vec![json!({ "use_beta_sigmas": true })],
        "lcm" => vec![json!({ "original_inference_steps": 50 })],
        _ => vec![json!({ "timestep_spacing": "trailing" })],
    }
}

/// The keys of `own`, overridden by those of the others.
fn merged(own: &Value, others: &[&Value]) -> Value {
    let mut all = own.clone();
    let keys = others.iter().filter_map(|other| other.as_object());
    for (key, value) in keys.flatten() {
        all[key] = value.clone();
    }
    all
}

/// Checks that the file, read back, takes the plan's steps.
fn same_steps(plan: &Sampled, file: &Value) -> Result<(), String> {
    let class = name(file);
    let found = Scheduler::parse(&file.to_string(), class).map_err(|error| error.to_string())?;
    let ours = plan.levels.as_slice();
    let different = || format!("a {class} has other levels than {}", plan.grid.name());
    let levels = found.levels(plan.steps);
    let levels = levels.map_err(|error| error.to_string())?;
    let theirs = levels.as_slice();
    let pairs = || ours.iter().copied().zip(theirs.iter().copied());
    if ours.len() != theirs.len() || !pairs().all(|(ours, theirs)| same_level(ours, theirs)) {
        return Err(different());
    }
    let method = plan.method.ok_or("it is the solver of a file")?;
    let method = method.solver(plan.objective.process(), plan.levels);
    let rows = [steps(&method, ours), steps(&found.rule(&levels), theirs)];
    match rows {
        [Ok(ours), Ok(theirs)] if ours.iter().zip(&theirs).all(|(a, b)| same_step(a, b)) => Ok(()),
        _ => Err(format!("a {class} takes other steps")),
    }
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= TOLERANCE * (1.0 + a.abs())
}

/// Compares log-SNRs, because the classes of σ have a small signal at T where we have none.
fn same_level(a: NoiseLevel, b: NoiseLevel) -> bool {
    close(a.log_snr(), b.log_snr())
}

/// Whether two steps evaluate the denoiser at the same levels and have the same factors.
fn same_step(a: &Step, b: &Step) -> bool {
    let levels = |step: &Step| step.asks.iter().map(|ask| ask.0).collect::<Vec<_>>();
    let rows = |step: &Step| {
        let asks = step.asks.iter().map(|ask| ask.1.clone());
        asks.chain([step.last.clone()]).collect::<Vec<_>>()
    };
    let same_levels = levels(a)
        .into_iter()
        .zip(levels(b))
        .all(|(a, b)| same_level(a, b));
    let same_rows = rows(a).iter().zip(&rows(b)).all(|(a, b)| {
        let z = |row: &Row, j: usize| row.z.get(j).copied().unwrap_or_default();
        let z = (0..a.z.len().max(b.z.len())).all(|j| close(z(a, j), z(b, j)));
        let terms = a.past.iter().zip(&b.past);
        let terms = terms
            .clone()
            .all(|(a, b)| close(a.x, b.x) && close(a.x0, b.x0));
        let spans = close(a.state, b.state) && close(a.z_span, b.z_span);
        a.past.len() == b.past.len() && terms && spans && z
    });
    a.asks.len() == b.asks.len() && same_levels && same_rows
}

/// diffusers' name of a parametrization.
pub(super) fn prediction_type(parametrization: Parametrization) -> &'static str {
    match parametrization {
        Parametrization::Epsilon => "epsilon",
        Parametrization::X0 => "sample",
        Parametrization::V => "v_prediction",
        Parametrization::Flow => "flow_prediction",
        Parametrization::Edm { .. } => "edm",
    }
}
