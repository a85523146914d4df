//! A run's levels and sampler as the file of the class of diffusers that does the same.

use ddpm_process::Clip;
use ddpm_schedule::solver::{Method, Row, Step, steps};
use ddpm_schedule::{NoiseLevel, Parametrization, Process};
use serde_json::{Value, json};

use super::Scheduler;
use crate::config::{self, ProcessKind};
use crate::plan::{self, NetworkPlan, Plan, Sampler};

/// The release whose keys these are.
const VERSION: &str = "0.42.1";

/// How far the numbers of a step that is read back may be off: those of a schedule, of which β of
/// a step is accurate to 10⁻¹¹ of itself and a thousand of them add up.
const TOLERANCE: f64 = 1e-7;

/// Classes that the loop of `DDPMPipeline` runs: it neither scales what the network sees nor the
/// first x, and hands a generator to every step.
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

/// Classes that clip by `thresholding` alone.
const THRESHOLDS: [&str; 3] = [
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "EDMDPMSolverMultistepScheduler",
];

/// A run's levels and sampler, as diffusers has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The `scheduler_config.json`.
    pub file: Value,
    /// That of a scheduler which `DDPMPipeline` can run: the same, or the plainest of the process;
    /// `None` if it can run none of the process.
    pub of_pipeline: Option<Value>,
    /// In what the file does not sample as the run does, if it does not.
    pub note: Option<String>,
}

/// The `scheduler_config.json` by which diffusers samples what a plan trains: the same levels, by
/// name or as `trained_betas`, the same target and clip, and the class of the plan's sampler, which
/// is told the rest.
///
/// Where no class takes the same steps, the file is that of the plainest class of the process, and
/// the note says so: DDPM with the variance β̃, Euler's method of EDM or of a flow. So it is for DDIM
/// with noise: η is an argument of a call in diffusers, and no key.
///
/// # Errors
///
/// If diffusers has no class for the process, or for what the network predicts on it.
pub fn config(plan: &Plan) -> Result<Exported, String> {
    let plainest = plainest(plan)?;
    let (file, note) = match closest(plan, &plainest) {
        Ok(file) => {
            let note = other_clip(plan, &file);
            (file, note)
        }
        Err(reason) => {
            let (class, sampler) = (name(&plainest), plan.sampling.sampler.name());
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

/// The file that takes the plan's steps, or why there is none.
fn closest(plan: &Plan, plainest: &Value) -> Result<Value, String> {
    let mut class = class(plan).ok_or("diffusers has no class of it")?;
    if plan.sampling.clip == Some(Clip::UNIT) && THRESHOLDS.contains(&name(&class)) {
        // A bound of 1 is a clip to ±1, which these classes know no other way.
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

/// In what a class clips otherwise than the plan, if it does.
fn other_clip(plan: &Plan, file: &Value) -> Option<String> {
    let class = name(file);
    let found = Scheduler::parse(&file.to_string(), class).ok()?;
    plan.sampling.clip?;
    if found.clip.is_none() {
        return Some(format!("a {class} does not clip x̂₀, as the run does"));
    }
    let ddim = class == "DDIMScheduler" && found.epsilon != plan.sampling.epsilon;
    ddim.then(|| {
        format!(
            "a {class} goes on with the network's own ε̂ after x̂₀ is clipped, and the run does not"
        )
    })
}

/// The class of a file.
fn name(file: &Value) -> &str {
    file["_class_name"].as_str().unwrap_or_default()
}

/// The file of the process's plainest class.
fn plainest(plan: &Plan) -> Result<Value, String> {
    let process = &plan.config.process;
    let parametrization = plan.objective.parametrization();
    let own = match (process.kind, parametrization) {
        (ProcessKind::Edm, Parametrization::Edm { sigma_data }) => json!({
            "_class_name": "EDMEulerScheduler",
            "sigma_min": process.sigma_min.unwrap_or(0.002),
            "sigma_max": process.sigma_max.unwrap_or(80.0),
            "sigma_data": sigma_data,
            "sigma_schedule": "karras",
            "rho": 7.0,
            "prediction_type": "epsilon",
            "num_train_timesteps": 1000,
            "final_sigmas_type": "zero",
        }),
        (ProcessKind::Flow, Parametrization::Flow) => json!({
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "shift": process.shift.unwrap_or(1.0),
            "num_train_timesteps": 1000,
        }),
        (
            ProcessKind::Linear
            | ProcessKind::ScaledLinear
            | ProcessKind::Cosine
            | ProcessKind::Sigmoid,
            Parametrization::Epsilon | Parametrization::X0 | Parametrization::V,
        ) => ddpm(plan)?,
        (ProcessKind::RandomWalk, _) => {
            let reason =
                "kind = \"random-walk\" does not preserve variance, as a DDPMScheduler does";
            return Err(reason.to_owned());
        }
        _ => {
            let reason = "diffusers has no scheduler for this process and parametrization";
            return Err(reason.to_owned());
        }
    };
    Ok(merged(&own, &[&json!({ "_diffusers_version": VERSION })]))
}

/// A `DDPMScheduler`'s file.
fn ddpm(plan: &Plan) -> Result<Value, String> {
    let process = &plan.config.process;
    let (name, betas) = match process.kind {
        ProcessKind::ScaledLinear => ("scaled_linear", None),
        ProcessKind::Cosine => ("squaredcos_cap_v2", None),
        // diffusers' schedule of this name is another. It rescales these β as we do ours.
        ProcessKind::Sigmoid => ("linear", Some(betas(process)?)),
        _ => ("linear", None),
    };
    let (start, end) = plan::beta_ends(process);
    // It tells the peer that the network has a second output, whatever the sampler.
    let variance = match plan.sampling.sampler.name() {
        _ if plan.config.objective.learned_variance => "learned_range",
        "ddpm-large" => "fixed_large",
        _ => "fixed_small",
    };
    Ok(json!({
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": process.timesteps,
        "beta_schedule": name,
        "beta_start": start,
        "beta_end": end,
        "trained_betas": betas,
        "rescale_betas_zero_snr": process.zero_terminal_snr,
        "prediction_type": prediction_type(plan.objective.parametrization()),
        "variance_type": variance,
        // Images are clipped, points are not.
        "clip_sample": matches!(plan.network, NetworkPlan::UNet(_)),
        "clip_sample_range": 1.0,
        "thresholding": false,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "timestep_spacing": "trailing",
        "steps_offset": 0,
    }))
}

/// β of the schedule before it is rescaled.
fn betas(process: &config::Process) -> Result<Vec<f64>, String> {
    let plain = config::Process {
        zero_terminal_snr: false,
        ..process.clone()
    };
    let plain = plan::schedule(&plain)?;
    Ok(plain.iter().map(|t| plain.beta(t)).collect())
}

/// The class of the sampler, with its own keys; `None` if there is none.
fn class(plan: &Plan) -> Option<Value> {
    let Sampler::Named(method) = &plan.sampling.sampler else {
        return None;
    };
    let process = plan.objective.process();
    let name = method.info().name;
    match process {
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
        // The third order begins with a step of the second.
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

/// The keys by which a class may lay out the plan's grid.
fn grids(plan: &Plan) -> Vec<Value> {
    let sampling = &plan.config.sampling;
    let rho = sampling.rho.unwrap_or(7.0);
    match sampling.grid.as_str() {
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

/// The keys of `own`, and over them those of the others.
fn merged(own: &Value, others: &[&Value]) -> Value {
    let mut all = own.clone();
    let keys = others.iter().filter_map(|other| other.as_object());
    for (key, value) in keys.flatten() {
        all[key] = value.clone();
    }
    all
}

/// Whether a file read back takes the plan's steps.
fn same_steps(plan: &Plan, file: &Value) -> Result<(), String> {
    let class = name(file);
    let found = Scheduler::parse(&file.to_string(), class).map_err(|error| error.to_string())?;
    let ours = plan.sampling.levels.as_slice();
    let different = || {
        format!(
            "a {class} has other levels than {}",
            plan.config.sampling.grid
        )
    };
    let levels = found.levels(plan.config.sampling.steps);
    let levels = levels.map_err(|error| error.to_string())?;
    let theirs = levels.as_slice();
    let pairs = || ours.iter().copied().zip(theirs.iter().copied());
    if ours.len() != theirs.len() || !pairs().all(|(ours, theirs)| same_level(ours, theirs)) {
        return Err(different());
    }
    let method = plan
        .sampling
        .sampler
        .solver(plan.objective.process(), &plan.sampling.levels);
    let rows = [steps(&method, ours), steps(&found.rule(&levels), theirs)];
    match rows {
        [Ok(ours), Ok(theirs)] if ours.iter().zip(&theirs).all(|(a, b)| same_step(a, b)) => Ok(()),
        _ => Err(format!("a {class} takes other steps")),
    }
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= TOLERANCE * (1.0 + a.abs())
}

/// Classes of σ have a signal at T where ours has none.
fn same_level(a: NoiseLevel, b: NoiseLevel) -> bool {
    close(a.log_snr(), b.log_snr())
}

/// Whether two steps ask at the same levels and have the same numbers.
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

/// diffusers' name of what a network predicts.
pub(super) fn prediction_type(parametrization: Parametrization) -> &'static str {
    match parametrization {
        Parametrization::Epsilon => "epsilon",
        Parametrization::X0 => "sample",
        Parametrization::V => "v_prediction",
        Parametrization::Flow => "flow_prediction",
        Parametrization::Edm { .. } => "edm",
    }
}
