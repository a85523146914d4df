//! `scheduler_config.json`: what every key means. Numbers are diffusers 0.42's.

mod classes;
mod notes;
mod numbers;
mod refusals;
mod sums;

use ddpm_interop::diffusers::scheduler::{Rule, Scheduler};
use ddpm_process::{AfterClip, Clip};
use ddpm_schedule::solver::Variance;
use ddpm_schedule::{Levels, NoiseLevel, NoiseSchedule, Parametrization};
use serde_json::{Map, Value, json};

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

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn read(class: &str, keys: Value) -> Scheduler {
    Scheduler::parse(&text(class, &keys), "s.json").unwrap()
}

/// The times told at the levels where steps start, counted from 0 as diffusers does.
fn told(scheduler: &Scheduler, levels: &Levels) -> Vec<f64> {
    let clock = scheduler.clock(levels);
    let starts = &levels.as_slice()[..levels.len()];
    starts.iter().map(|&at| clock.time(at)).collect()
}

fn steps(scheduler: &Scheduler, n: u32) -> Vec<f64> {
    told(scheduler, &scheduler.levels(n).unwrap())
}

fn rule(scheduler: &Scheduler) -> Rule {
    scheduler.rule(&scheduler.levels(20).unwrap())
}

fn schedule(scheduler: &Scheduler) -> &NoiseSchedule {
    scheduler.objective.schedule().unwrap()
}

/// That nothing went wrong.
#[track_caller]
fn check(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn absent_keys_are_diffusers_defaults() {
    for class in CLASSES {
        let found = read(class, json!({}));
        let objective = &found.objective;
        assert_eq!(objective.parametrization(), Parametrization::Epsilon);
        let linear = ddpm_schedule::NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap();
        assert_eq!(schedule(&found), &linear);
        assert!(!found.learned_variance);
        let (name, clip, epsilon) = match class {
            "DDPMScheduler" => ("ddpm", Some(Clip::UNIT), AfterClip::Derived),
            // diffusers goes on with the ε̂ of the network.
            "DDIMScheduler" => ("ddim", Some(Clip::UNIT), AfterClip::Kept),
            _ => ("dpmpp-2m", None, AfterClip::Derived),
        };
        let rule = rule(&found);
        assert_eq!(
            (rule.name(), found.clip, found.epsilon),
            (name, clip, epsilon)
        );
        assert_eq!(rule.is_stochastic(), class == "DDPMScheduler");
        assert_eq!(found.levels(5).unwrap().end(), NoiseLevel::CLEAN);
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
        let schedule = schedule(&found);
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
    let last = schedule(&betas).level(schedule(&betas).last());
    let alpha_bar = last.alpha_bar();
    assert!((alpha_bar - 0.9 * 0.8 * 0.7).abs() < 1e-15, "{alpha_bar}");

    let mut keys = ends;
    keys["rescale_betas_zero_snr"] = json!(true);
    keys["prediction_type"] = json!("v_prediction");
    let found = read(CLASSES[2], keys);
    assert_eq!(found.objective.parametrization(), Parametrization::V);
    let schedule = schedule(&found);
    let alpha_bar = |t| schedule.level(schedule.timestep(t).unwrap()).alpha_bar();
    assert!((alpha_bar(50) - 0.235_357_717).abs() < 2e-5);
    assert_eq!(alpha_bar(100), 0.0);
}

#[test]
fn variances_choose_the_sampler() {
    for (name, variance, learned) in [
        ("fixed_small", Variance::Small, false),
        ("fixed_small_log", Variance::Small, false),
        ("fixed_large", Variance::Large, false),
        ("fixed_large_log", Variance::Large, false),
        ("learned_range", Variance::Learned, true),
    ] {
        let found = read(CLASSES[0], json!({ "variance_type": name }));
        let ddpm = Rule::Ddpm(ddpm_schedule::solver::Ddpm { variance });
        assert_eq!((rule(&found), found.learned_variance), (ddpm, learned));
    }
    for (name, learned) in [
        ("learned", true),
        ("learned_range", true),
        ("fixed_small", false),
        ("fixed_small_log", false),
        ("fixed_large", false),
        ("fixed_large_log", false),
    ] {
        let found = read(CLASSES[2], json!({ "variance_type": name }));
        assert_eq!(
            (rule(&found).name(), found.learned_variance),
            ("dpmpp-2m", learned)
        );
    }
    // The second is what the first was before diffusers 0.12.
    for (key, value) in [
        ("prediction_type", json!("sample")),
        ("predict_epsilon", json!(false)),
    ] {
        let sample = read(CLASSES[1], json!({ key: value }));
        assert_eq!(sample.objective.parametrization(), Parametrization::X0);
    }
    let epsilon = read(CLASSES[1], json!({ "predict_epsilon": true }));
    assert_eq!(epsilon, read(CLASSES[1], json!({})));
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
            (
                "leading",
                0,
                7,
                vec![852.0, 710.0, 568.0, 426.0, 284.0, 142.0, 0.0],
            ),
            ("leading", 1, 5, vec![801.0, 601.0, 401.0, 201.0, 1.0]),
            (
                "trailing",
                1,
                7,
                vec![999.0, 856.0, 713.0, 570.0, 428.0, 285.0, 142.0],
            ),
            ("linspace", 1, 5, vec![999.0, 749.0, 500.0, 250.0, 0.0]),
        ] {
            let keys = json!({ "timestep_spacing": spacing, "steps_offset": offset });
            assert_eq!(of(class, keys, n), expected);
        }
    }
    for (keys, n, expected) in [
        (
            json!({ "timestep_spacing": "leading", "steps_offset": 1 }),
            5,
            vec![831.0, 665.0, 499.0, 333.0, 167.0],
        ),
        (
            json!({ "timestep_spacing": "trailing" }),
            5,
            vec![999.0, 799.0, 599.0, 399.0, 199.0],
        ),
        (json!({}), 5, vec![999.0, 799.0, 599.0, 400.0, 200.0]),
        (
            json!({ "use_karras_sigmas": true }),
            6,
            vec![999.0, 880.0, 711.0, 434.0, 77.0, 0.0],
        ),
        (
            json!({ "use_lu_lambdas": true }),
            6,
            vec![999.0, 785.0, 492.0, 138.0, 17.0, 0.0],
        ),
        (
            json!({ "use_exponential_sigmas": true }),
            6,
            vec![999.0, 784.0, 492.0, 138.0, 16.0, 0.0],
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
    for (at, sigma) in karras.levels(6).unwrap().as_slice().iter().zip(sigmas) {
        let found = at.sigma();
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
            vec![800.0, 600.0, 400.0, 200.0],
        ),
        (
            CLASSES[1],
            json!({ "set_alpha_to_one": false, "steps_offset": 1 }),
            5,
            vec![801.0, 601.0, 401.0, 201.0, 1.0],
        ),
        (
            CLASSES[2],
            json!({ "final_sigmas_type": "sigma_min", "lower_order_final": false }),
            5,
            vec![999.0, 799.0, 599.0, 400.0, 200.0],
        ),
        (
            CLASSES[2],
            json!({ "final_sigmas_type": "sigma_min", "use_karras_sigmas": true }),
            6,
            vec![999.0, 880.0, 711.0, 434.0, 77.0],
        ),
    ] {
        let found = read(class, keys);
        let levels = found.levels(n).unwrap();
        let schedule = schedule(&found);
        assert_eq!(levels.end(), schedule.level(schedule.first()));
        assert_eq!(told(&found, &levels), expected);
    }
}
