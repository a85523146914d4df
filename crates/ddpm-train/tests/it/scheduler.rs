//! `scheduler_config.json`: every key, what is refused, and back. Numbers are diffusers 0.42's.

use ddpm_process::Clip;
use ddpm_schedule::{Eta, NoiseLevel, Parametrization, Sampler, Trajectory};
use ddpm_train::config::Config;
use ddpm_train::diffusers::scheduler::{Scheduler, StepsError, ddpm_config};
use ddpm_train::plan::Plan;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const DDIM: Sampler = Sampler::Ddim { eta: Eta::ZERO };
const CLASSES: [&str; 3] = [
    "DDPMScheduler",
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
];

/// A file of a class with these keys, as Python writes it.
fn text(class: &str, keys: &Value) -> String {
    let mut map: Map<String, Value> = keys.as_object().unwrap().clone();
    map.insert("_class_name".to_owned(), json!(class));
    map.insert("_diffusers_version".to_owned(), json!("0.42.1"));
    Value::Object(map).to_string()
}

fn read(class: &str, keys: Value) -> Scheduler {
    Scheduler::parse(&text(class, &keys), "s.json").unwrap()
}

#[track_caller]
fn assert_refused(class: &str, keys: Value, message: &str) {
    let error = Scheduler::parse(&text(class, &keys), "s.json").unwrap_err();
    assert_eq!(error.to_string(), message);
}

/// The times told, counted from 0 as diffusers does.
fn told(trajectory: &Trajectory) -> Vec<u32> {
    let visits = trajectory.visits().iter();
    visits.map(|at| at.t.get() - 1).collect()
}

fn steps(scheduler: &Scheduler, n: u32) -> Vec<u32> {
    told(&scheduler.trajectory(n).unwrap())
}

#[test]
fn absent_keys_are_diffusers_defaults() {
    for class in CLASSES {
        let found = read(class, json!({}));
        let objective = &found.objective;
        assert_eq!(objective.parametrization(), Parametrization::Epsilon);
        let linear = ddpm_schedule::NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap();
        assert_eq!(objective.schedule(), &linear);
        assert!(!found.learned_variance);
        let (sampler, clip) = match class {
            "DDPMScheduler" => (Sampler::ANCESTRAL, Some(Clip::UNIT)),
            "DDIMScheduler" => (DDIM, Some(Clip::UNIT)),
            _ => (Sampler::DpmPp2M, None),
        };
        assert_eq!((found.sampler, found.clip), (sampler, clip));
        assert_eq!(found.trajectory(5).unwrap().end(), NoiseLevel::CLEAN);
    }
}

/// What `save_pretrained` writes, with every key and Python's −Infinity, is what the class is
/// without any.
#[test]
fn a_file_that_spells_out_the_defaults_is_the_default() {
    let ddpm = json!({
        "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001, "clip_sample": true,
        "clip_sample_range": 1.0, "dynamic_thresholding_ratio": 0.995,
        "num_train_timesteps": 1000, "prediction_type": "epsilon",
        "rescale_betas_zero_snr": false, "sample_max_value": 1.0, "steps_offset": 0,
        "thresholding": false, "timestep_spacing": "leading", "trained_betas": null,
    });
    let with = |key: &str, value: Value| {
        let mut keys = ddpm.clone();
        keys[key] = value;
        keys
    };
    let full = with("variance_type", json!("fixed_small"));
    assert_eq!(read(CLASSES[0], full), read(CLASSES[0], json!({})));
    let full = with("set_alpha_to_one", json!(true));
    assert_eq!(read(CLASSES[1], full), read(CLASSES[1], json!({})));
    let solver = r#"{
      "_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.42.1",
      "algorithm_type": "dpmsolver++", "beta_end": 0.02, "beta_schedule": "linear",
      "beta_start": 0.0001, "dynamic_thresholding_ratio": 0.995, "euler_at_final": false,
      "final_sigmas_type": "zero", "flow_shift": 1.0, "lambda_min_clipped": -Infinity,
      "lower_order_final": true, "num_train_timesteps": 1000, "prediction_type": "epsilon",
      "rescale_betas_zero_snr": false, "sample_max_value": 1.0, "solver_order": 2,
      "solver_type": "midpoint", "steps_offset": 0, "thresholding": false,
      "time_shift_type": "exponential", "timestep_spacing": "linspace", "trained_betas": null,
      "use_beta_sigmas": false, "use_dynamic_shifting": false, "use_exponential_sigmas": false,
      "use_flow_sigmas": false, "use_karras_sigmas": false, "use_lu_lambdas": false,
      "variance_type": null
    }"#;
    let found = Scheduler::parse(solver, "s.json").unwrap();
    assert_eq!(found, read(CLASSES[2], json!({})));
}

/// ᾱ of the peer's tables at τ = 0, 49 and 99, which are single precision: 10⁻⁴ of 1 − ᾱ where it
/// is small and of ᾱ at the end of a hundred products.
#[test]
fn schedules_are_the_peers() {
    let ends = json!({ "num_train_timesteps": 100, "beta_start": 1e-3, "beta_end": 0.1 });
    for (name, [first, middle, last]) in [
        ("linear", [0.999_000_012_9, 0.273_344_755, 0.005_363_033_6]),
        (
            "scaled_linear",
            [0.999_000_012_9, 0.542_030_454, 0.021_668_462_1],
        ),
        (
            "squaredcos_cap_v2",
            [0.999_368_727, 0.493_843_526, 2.428_540_7e-7],
        ),
        ("sigmoid", [0.998_755_217, 0.536_495_924, 0.005_126_486_5]),
    ] {
        let mut keys = ends.clone();
        keys["beta_schedule"] = json!(name);
        let found = read(CLASSES[0], keys);
        let schedule = found.objective.schedule();
        for (t, alpha_bar) in [(1, first), (50, middle), (100, last)] {
            let level = schedule.level(schedule.timestep(t).unwrap());
            let off = (level.alpha_bar() - alpha_bar).abs();
            assert!(
                off < 1e-4 * alpha_bar.min(1.0 - alpha_bar),
                "{name} {t}: {off}"
            );
        }
    }
    let betas = read(
        CLASSES[1],
        json!({ "trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3 }),
    );
    let schedule = betas.objective.schedule();
    let alpha_bar = schedule.level(schedule.last()).alpha_bar();
    assert!((alpha_bar - 0.9 * 0.8 * 0.7).abs() < 1e-15, "{alpha_bar}");

    let mut keys = ends;
    keys["rescale_betas_zero_snr"] = json!(true);
    keys["prediction_type"] = json!("v_prediction");
    let found = read(CLASSES[2], keys);
    assert_eq!(found.objective.parametrization(), Parametrization::V);
    let schedule = found.objective.schedule();
    let alpha_bar = |t| schedule.level(schedule.timestep(t).unwrap()).alpha_bar();
    assert!((alpha_bar(50) - 0.235_357_717).abs() < 2e-5);
    assert_eq!(alpha_bar(100), 0.0);
}

#[test]
fn variances_choose_the_sampler() {
    for (name, sampler, learned) in [
        ("fixed_small", Sampler::ANCESTRAL, false),
        ("fixed_small_log", Sampler::ANCESTRAL, false),
        ("fixed_large", Sampler::AncestralBeta, false),
        ("fixed_large_log", Sampler::AncestralBeta, false),
        ("learned_range", Sampler::ANCESTRAL, true),
    ] {
        let found = read(CLASSES[0], json!({ "variance_type": name }));
        assert_eq!((found.sampler, found.learned_variance), (sampler, learned));
    }
    for name in ["learned", "learned_range"] {
        let found = read(CLASSES[2], json!({ "variance_type": name }));
        assert_eq!(
            (found.sampler, found.learned_variance),
            (Sampler::DpmPp2M, true)
        );
    }
    let first_order = read(
        CLASSES[2],
        json!({ "solver_order": 1, "solver_type": "heun" }),
    );
    assert_eq!(first_order.sampler, DDIM);
    let sample = read(CLASSES[1], json!({ "prediction_type": "sample" }));
    assert_eq!(sample.objective.parametrization(), Parametrization::X0);
}

#[test]
fn clips_are_the_files() {
    let clip = |class, keys| read(class, keys).clip;
    assert_eq!(clip(CLASSES[0], json!({ "clip_sample": false })), None);
    assert_eq!(
        clip(CLASSES[1], json!({ "clip_sample_range": 2.5 })),
        Some(Clip::to(2.5).unwrap())
    );
    let dynamic = json!({
        "thresholding": true, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5
    });
    for class in CLASSES {
        // Before clip_sample, which is true.
        let expected = Clip::dynamic(0.9, 1.5).unwrap();
        assert_eq!(clip(class, dynamic.clone()), Some(expected));
    }
}

#[test]
fn times_are_the_peers() {
    let of = |class, keys: Value, n| steps(&read(class, keys), n);
    for class in [CLASSES[0], CLASSES[1]] {
        for (spacing, offset, n, expected) in [
            ("leading", 0, 7, vec![852, 710, 568, 426, 284, 142, 0]),
            ("leading", 1, 5, vec![801, 601, 401, 201, 1]),
            ("trailing", 1, 7, vec![999, 856, 713, 570, 428, 285, 142]),
            ("linspace", 1, 5, vec![999, 749, 500, 250, 0]),
        ] {
            let keys = json!({ "timestep_spacing": spacing, "steps_offset": offset });
            assert_eq!(of(class, keys, n), expected);
        }
    }
    for (keys, n, expected) in [
        (
            json!({ "timestep_spacing": "leading", "steps_offset": 1 }),
            5,
            vec![831, 665, 499, 333, 167],
        ),
        (
            json!({ "timestep_spacing": "trailing" }),
            5,
            vec![999, 799, 599, 399, 199],
        ),
        (json!({}), 5, vec![999, 799, 599, 400, 200]),
        (
            json!({ "use_karras_sigmas": true }),
            6,
            vec![999, 880, 711, 434, 77, 0],
        ),
        (
            json!({ "use_lu_lambdas": true }),
            6,
            vec![999, 785, 492, 138, 17, 0],
        ),
        (
            json!({ "use_exponential_sigmas": true }),
            6,
            vec![999, 785, 492, 138, 17, 0],
        ),
    ] {
        assert_eq!(of(CLASSES[2], keys, n), expected);
    }
    // σ of the first: the peer's table is single precision.
    let karras = read(CLASSES[2], json!({ "use_karras_sigmas": true }));
    let sigmas = [
        157.407,
        50.580_92,
        13.037_98,
        2.422_889,
        0.263_138_1,
        0.010_001_33,
    ];
    for (at, sigma) in karras.trajectory(6).unwrap().visits().iter().zip(sigmas) {
        let found = at.level.noise() / at.level.signal();
        assert!((found / sigma - 1.0).abs() < 2e-4, "{found} {sigma}");
    }
}

#[test]
fn the_end_is_clean_data_or_the_first_level() {
    for (class, keys, n, expected) in [
        (
            CLASSES[1],
            json!({ "set_alpha_to_one": false }),
            5,
            vec![800, 600, 400, 200],
        ),
        (
            CLASSES[1],
            json!({ "set_alpha_to_one": false, "steps_offset": 1 }),
            5,
            vec![801, 601, 401, 201, 1],
        ),
        (
            CLASSES[2],
            json!({ "final_sigmas_type": "sigma_min", "lower_order_final": false }),
            5,
            vec![999, 799, 599, 400, 200],
        ),
        (
            CLASSES[2],
            json!({ "final_sigmas_type": "sigma_min", "use_karras_sigmas": true }),
            6,
            vec![999, 880, 711, 434, 77],
        ),
    ] {
        let found = read(class, keys);
        let trajectory = found.trajectory(n).unwrap();
        let schedule = found.objective.schedule();
        assert_eq!(trajectory.end(), schedule.level(schedule.first()));
        assert_eq!(told(&trajectory), expected);
    }
}

#[test]
fn steps_that_cannot_be_taken_are_refused() {
    let ddim = read(CLASSES[1], json!({ "steps_offset": 1 }));
    assert_eq!(
        ddim.trajectory(1000).unwrap_err().to_string(),
        "t = 1001 is outside 1..=1000"
    );
    assert!(ddim.trajectory(0).is_err() && ddim.trajectory(1001).is_err());
    let far = read(CLASSES[0], json!({ "steps_offset": u32::MAX }));
    assert!(far.trajectory(1).is_err());
    let solver = read(CLASSES[2], json!({ "final_sigmas_type": "sigma_min" }));
    assert_eq!(solver.trajectory(14), Err(StepsError::LowerOrderFinal(14)));
    assert_eq!(solver.trajectory(15).unwrap().len(), 15);
    assert!(solver.trajectory(u32::MAX).is_err());
}

#[test]
fn unknown_keys_are_named() {
    for class in CLASSES {
        let message = format!("s.json: {class} has no key colour, flavour");
        assert_refused(class, json!({ "flavour": 1, "colour": null }), &message);
    }
    // Each class has its own.
    assert_refused(
        CLASSES[0],
        json!({ "set_alpha_to_one": true }),
        "s.json: DDPMScheduler has no key set_alpha_to_one",
    );
    assert_refused(
        CLASSES[2],
        json!({ "clip_sample": true }),
        "s.json: DPMSolverMultistepScheduler has no key clip_sample",
    );
}

#[test]
fn unsupported_values_are_named() {
    for (class, key, value, message) in [
        (
            0,
            "beta_schedule",
            json!("laplace"),
            "beta_schedule = \"laplace\": supported are \"linear\", \"scaled_linear\", \"squaredcos_cap_v2\", \"sigmoid\" and trained_betas",
        ),
        (
            1,
            "beta_schedule",
            json!("sigmoid"),
            "beta_schedule = \"sigmoid\": supported are \"linear\", \"scaled_linear\", \"squaredcos_cap_v2\" and trained_betas",
        ),
        (
            0,
            "beta_schedule",
            json!(7),
            "beta_schedule = 7: invalid type: integer `7`, expected a string",
        ),
        (
            0,
            "beta_end",
            json!(2.0),
            "beta_schedule = \"linear\": beta_end = 2 is outside (0, 1)",
        ),
        (
            0,
            "num_train_timesteps",
            json!(0),
            "num_train_timesteps = 0: supported are 1 to 1000000",
        ),
        (
            0,
            "num_train_timesteps",
            json!(4_000_000_000_u32),
            "num_train_timesteps = 4000000000: supported are 1 to 1000000",
        ),
        (
            1,
            "trained_betas",
            json!([0.1, 0.2]),
            "num_train_timesteps = 1000: trained_betas has 2 numbers",
        ),
        (
            1,
            "prediction_type",
            json!("flow_prediction"),
            "prediction_type = \"flow_prediction\": supported are \"epsilon\", \"sample\" and \"v_prediction\"",
        ),
        (
            0,
            "rescale_betas_zero_snr",
            json!(true),
            "prediction_type = \"epsilon\": Epsilon does not determine x̂₀ at t = 1000, where x_t = 0·x₀ + 1·ε",
        ),
        (
            0,
            "variance_type",
            json!("learned"),
            "variance_type = \"learned\": not supported; only \"fixed_small\" or \"fixed_small_log\" or \"fixed_large\" or \"fixed_large_log\" or \"learned_range\" is",
        ),
        (
            2,
            "variance_type",
            json!("fixed_small"),
            "variance_type = \"fixed_small\": not supported; only null or \"learned\" or \"learned_range\" is",
        ),
        (
            1,
            "timestep_spacing",
            json!("quadratic"),
            "timestep_spacing = \"quadratic\": not supported; only \"leading\" or \"trailing\" or \"linspace\" is",
        ),
        (
            1,
            "steps_offset",
            json!(-1),
            "steps_offset = -1: invalid value: integer `-1`, expected u32",
        ),
        (
            0,
            "clip_sample_range",
            json!(0.0),
            "clip_sample_range = 0.0: the bound of x̂₀ must be in (0, ∞), not 0",
        ),
        (
            2,
            "solver_order",
            json!(3),
            "solver_order = 3: supported are 1 and 2",
        ),
        (
            2,
            "solver_type",
            json!("heun"),
            "solver_type = \"heun\": not supported; only \"midpoint\" or \"logrho\" or \"bh1\" or \"bh2\" is",
        ),
        (
            2,
            "algorithm_type",
            json!("sde-dpmsolver++"),
            "algorithm_type = \"sde-dpmsolver++\": not supported; only \"dpmsolver++\" or \"deis\" is",
        ),
        (
            2,
            "final_sigmas_type",
            json!("none"),
            "final_sigmas_type = \"none\": not supported; only \"zero\" or \"sigma_min\" is",
        ),
        (
            2,
            "lambda_min_clipped",
            json!(-5.1),
            "lambda_min_clipped = -5.1: not supported; only \"-Infinity\" or null is",
        ),
        (
            2,
            "use_beta_sigmas",
            json!(true),
            "use_beta_sigmas = true: not supported; only false is",
        ),
        (
            2,
            "use_flow_sigmas",
            json!(true),
            "use_flow_sigmas = true: not supported; only false is",
        ),
        (
            2,
            "use_dynamic_shifting",
            json!(true),
            "use_dynamic_shifting = true: not supported; only false is",
        ),
        (
            2,
            "flow_shift",
            json!(3.0),
            "flow_shift = 3.0: not supported; only 1.0 or 1 is",
        ),
    ] {
        let mut keys = Map::new();
        keys.insert(key.to_owned(), value);
        assert_refused(
            CLASSES[class],
            Value::Object(keys),
            &format!("s.json: {message}"),
        );
    }
}

#[test]
fn values_that_exclude_each_other_are_named() {
    assert_refused(
        CLASSES[2],
        json!({ "use_karras_sigmas": true, "use_exponential_sigmas": true }),
        "s.json: use_exponential_sigmas = true: use_karras_sigmas is true already, and one \
         excludes the other",
    );
    assert_refused(
        CLASSES[2],
        json!({ "euler_at_final": true, "final_sigmas_type": "sigma_min" }),
        "s.json: euler_at_final = true: supported where the last step leads to clean data, \
         final_sigmas_type = \"zero\", and is one of Euler's anyway",
    );
    for (key, value, message) in [
        (
            "dynamic_thresholding_ratio",
            1.5,
            "the quantile 1.5 of |x̂₀| is outside [0, 1]",
        ),
        (
            "sample_max_value",
            -1.0,
            "the bound of x̂₀ must be in (0, ∞), not -1",
        ),
    ] {
        let mut keys = json!({ "thresholding": true });
        keys[key] = json!(value);
        assert_refused(
            CLASSES[1],
            keys,
            &format!("s.json: {key} = {value:?}: {message}"),
        );
    }
}

#[test]
fn other_files_are_refused() {
    let refusal = |text: &str| Scheduler::parse(text, "s.json").unwrap_err().to_string();
    assert_eq!(
        refusal(r#"{"_class_name": "PNDMScheduler"}"#),
        "s.json: _class_name = \"PNDMScheduler\": supported are DDPMScheduler, DDIMScheduler and \
         DPMSolverMultistepScheduler"
    );
    assert!(refusal("{}").starts_with("s.json: _class_name = \"\": supported are"));
    for text in ["", "[1]", "{", "{\"a\": -Infinity", "\"\\"] {
        assert!(refusal(text).starts_with("s.json: "), "{text}");
    }
}

/// A recipe's plan with another schedule and objective.
fn plan(schedule: &str, parametrization: &str, sampler: &str) -> Plan {
    let digits = include_str!("../../recipes/digits.toml");
    let mut config = Config::parse(digits, "digits.toml").unwrap();
    let table: toml::Table = toml::from_str(schedule).unwrap();
    config.schedule = table.try_into().unwrap();
    let value = |name: &str| toml::Value::String(name.to_owned());
    config.objective.parametrization = value(parametrization).try_into().unwrap();
    config.sampling.sampler = value(sampler).try_into().unwrap();
    config.sampling.steps = 10;
    Plan::new(config, "digits.toml").unwrap()
}

/// What is written for diffusers is read back as the same levels, target, sampler and times.
#[test]
fn a_plans_scheduler_comes_back() {
    for (schedule, parametrization) in [
        ("kind = 'linear'\ntimesteps = 1000", "epsilon"),
        (
            "kind = 'linear'\ntimesteps = 50\nbeta_start = 1e-3\nbeta_end = 0.2",
            "x0",
        ),
        (
            "kind = 'scaled-linear'\ntimesteps = 100\nbeta_start = 8.5e-4\nbeta_end = 0.12",
            "v",
        ),
        ("kind = 'cosine'\ntimesteps = 100", "epsilon"),
        (
            "kind = 'cosine'\ntimesteps = 100\nzero_terminal_snr = true",
            "v",
        ),
        ("kind = 'sigmoid'\ntimesteps = 100", "epsilon"),
        (
            "kind = 'sigmoid'\ntimesteps = 100\nzero_terminal_snr = true",
            "v",
        ),
    ] {
        for (name, sampler) in [
            ("ancestral", Sampler::ANCESTRAL),
            ("ancestral-beta", Sampler::AncestralBeta),
        ] {
            let plan = plan(schedule, parametrization, name);
            let written = ddpm_config(&plan).unwrap().to_string();
            let found = Scheduler::parse(&written, "s.json").unwrap();
            assert_eq!(found.sampler, sampler);
            assert_eq!(found.clip, Some(Clip::UNIT));
            let (ours, theirs) = (&plan.objective, &found.objective);
            assert_eq!(ours.parametrization(), theirs.parametrization());
            // β of a step is accurate to 10⁻¹¹ of itself, and a hundred of them add up to λ.
            for t in ours.schedule().iter() {
                let [ours, theirs] = [ours, theirs].map(|objective| objective.schedule().level(t));
                assert!(
                    (ours.noise() - theirs.noise()).abs() < 1e-9,
                    "{schedule} {t:?}"
                );
                assert!(
                    (ours.signal() - theirs.signal()).abs() < 1e-9,
                    "{schedule} {t:?}"
                );
            }
            let trajectory = found.trajectory(10).unwrap();
            assert_eq!(told(&trajectory), told(&plan.sampling.trajectory));
        }
    }
    let walk = plan("kind = 'random-walk'\ntimesteps = 10", "x0", "ddim");
    assert_eq!(
        ddpm_config(&walk).unwrap_err(),
        "kind = \"random-walk\" does not preserve variance, as a DDPMScheduler does"
    );
}

/// Values of every kind a file can have.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u32..40).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0.0..1.0).prop_map(Value::from),
        proptest::sample::select(vec![
            "linear",
            "sigmoid",
            "epsilon",
            "v_prediction",
            "sample",
            "leading",
            "trailing",
            "learned_range",
            "sigma_min",
            "squaredcos_cap_v2",
        ])
        .prop_map(Value::from),
        proptest::collection::vec(0.0..1.1_f64, 0..4).prop_map(Value::from),
    ]
}

proptest! {
    /// Whatever a file says, it is read or refused, and so are steps.
    #[test]
    fn no_file_panics(
        class in proptest::sample::select(&CLASSES[..]),
        values in proptest::collection::vec((any::<proptest::sample::Index>(), value()), 0..6),
        n in any::<u32>(),
        few in 0_u32..40,
    ) {
        let known = [
            "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
            "rescale_betas_zero_snr", "prediction_type", "variance_type", "clip_sample",
            "clip_sample_range", "thresholding", "dynamic_thresholding_ratio", "sample_max_value",
            "timestep_spacing", "steps_offset", "set_alpha_to_one", "solver_order",
            "use_karras_sigmas", "use_lu_lambdas", "final_sigmas_type", "lower_order_final",
        ];
        let keys = values.iter().map(|(key, value)| (known[key.index(known.len())].to_owned(), value.clone()));
        let keys: Map<String, Value> = keys.collect();
        if let Ok(found) = Scheduler::parse(&text(class, &Value::Object(keys)), "s.json") {
            for n in [n, few] {
                if let Ok(trajectory) = found.trajectory(n) {
                    assert!(trajectory.pairs().all(|(t, s)| t.level.log_snr() < s.log_snr()));
                }
            }
        }
    }

    #[test]
    fn no_text_panics(text in "[{}\\[\\]\":,\\\\a-zI0-9é-]{0,40}") {
        let _ = Scheduler::parse(&text, "s.json");
    }
}
