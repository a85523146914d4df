//! What is refused, and that nothing else happens to a file that makes no sense.

use ddpm_interop::diffusers::scheduler::Scheduler;
use ddpm_schedule::solver::steps;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{CLASSES, read, text};

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn assert_refused(class: &str, keys: Value, message: &str) {
    let error = Scheduler::parse(&text(class, &keys), "s.json").unwrap_err();
    assert_eq!(error.to_string(), message);
}

#[test]
fn steps_that_cannot_be_taken_are_refused() {
    let ddim = read(CLASSES[1], json!({ "steps_offset": 1 }));
    assert_eq!(
        ddim.levels(1000).unwrap_err().to_string(),
        "the process has no level at the time 1000"
    );
    assert!(ddim.levels(0).is_err() && ddim.levels(1001).is_err());
    let far = read(CLASSES[0], json!({ "steps_offset": u32::MAX }));
    assert!(far.levels(1).is_err());
    let solver = read(CLASSES[2], json!({ "final_sigmas_type": "sigma_min" }));
    assert_eq!(solver.levels(15).unwrap().len(), 15);
    assert!(solver.levels(u32::MAX).is_err());
}

#[test]
fn unknown_keys_are_named() {
    for class in CLASSES {
        let message = "s.json: unknown keys: colour, flavour";
        assert_refused(class, json!({ "flavour": 1, "colour": null }), message);
    }
    // What is unknown is named, not what is known of others.
    assert_refused(
        CLASSES[0],
        json!({ "set_alpha_to_one": true, "flavour": 1 }),
        "s.json: unknown keys: flavour",
    );
}

/// One key of a class with a value that is refused, and the message after the file's name.
type Refusal = (usize, &'static str, Value, &'static str);

#[track_caller]
fn assert_all_refused(refusals: impl IntoIterator<Item = Refusal>) {
    for (class, key, value, message) in refusals {
        let keys = Map::from_iter([(key.to_owned(), value)]);
        let message = format!("s.json: {message}");
        assert_refused(CLASSES[class], Value::Object(keys), &message);
    }
}

#[test]
fn unsupported_levels_are_named() {
    assert_all_refused([
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
    ]);
}

#[test]
fn unsupported_steps_are_named() {
    assert_all_refused([
        (
            0,
            "variance_type",
            json!("learned"),
            "variance_type = \"learned\": not supported; only \"fixed_small\" or \"fixed_small_log\" or \"fixed_large\" or \"fixed_large_log\" or \"learned_range\" is",
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
    ]);
}

#[test]
fn unsupported_solvers_are_named() {
    assert_all_refused([
        (
            2,
            "variance_type",
            json!("small"),
            "variance_type = \"small\": not supported; only null or \"fixed_small\" or \"fixed_small_log\" or \"fixed_large\" or \"fixed_large_log\" or \"learned\" or \"learned_range\" is",
        ),
        (
            2,
            "solver_order",
            json!(4),
            "solver_order = 4: supported are 1, 2 and 3",
        ),
        (
            2,
            "solver_type",
            json!("euler"),
            "solver_type = \"euler\": not supported; only \"midpoint\" or \"heun\" or \"logrho\" or \"bh1\" or \"bh2\" is",
        ),
        (
            2,
            "algorithm_type",
            json!("dpmsolver+++"),
            "algorithm_type = \"dpmsolver+++\": not supported; only \"dpmsolver++\" or \"sde-dpmsolver++\" or \"deis\" or \"dpmsolver\" or \"sde-dpmsolver\" is",
        ),
        (
            2,
            "algorithm_type",
            json!("dpmsolver"),
            "final_sigmas_type = \"zero\": supported is \"sigma_min\" with algorithm_type = \"dpmsolver\": clean data has no ε̂",
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
            json!("Infinity"),
            "lambda_min_clipped = \"Infinity\": supported are numbers and -Infinity",
        ),
        (
            2,
            "lambda_min_clipped",
            json!(40.0),
            "lambda_min_clipped = 40.0: no step is left",
        ),
        (
            2,
            "use_flow_sigmas",
            json!(true),
            "prediction_type = \"epsilon\": supported are \"flow_prediction\" and \"sample\"",
        ),
        (
            2,
            "use_dynamic_shifting",
            json!(true),
            "use_dynamic_shifting = true: not supported; only false or null is",
        ),
    ]);
}

#[test]
fn values_that_exclude_each_other_are_named() {
    assert_refused(
        CLASSES[2],
        json!({ "use_karras_sigmas": true, "use_exponential_sigmas": true }),
        "s.json: use_exponential_sigmas = true: use_karras_sigmas is true already, and only \
         one can be",
    );
    assert_refused(
        CLASSES[0],
        json!({ "predict_epsilon": false, "prediction_type": "epsilon" }),
        "s.json: predict_epsilon = false: contradicts prediction_type = \"epsilon\"",
    );
    // diffusers looks for these two where it spaces by σ, though the class does not have them.
    let keys = json!({ "use_karras_sigmas": true, "sigma_min": 0.0 });
    let message = "s.json: sigma_min = 0.0: sigma_min = 0 is outside (0, ∞)";
    assert_refused(CLASSES[2], keys, message);
    for (key, value, message) in [
        (
            "dynamic_thresholding_ratio",
            1.5,
            "the quantile 1.5 of |x̂₀| is outside [0, 1]",
        ),
        (
            "sample_max_value",
            0.5,
            "the largest bound of x̂₀ must be in [1, ∞), not 0.5",
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
    let followed = refusal(r#"{"_class_name": "VQDiffusionScheduler"}"#);
    let begin = "s.json: _class_name = \"VQDiffusionScheduler\": supported are DDPMScheduler, ";
    assert!(followed.starts_with(begin), "{followed}");
    for (class, reason) in [
        ("DPMSolverSDEScheduler", "Brownian tree"),
        ("ScoreSdeVeScheduler", "norms of the network's output"),
        ("DDIMInverseScheduler", "the level that a step leads to"),
    ] {
        let refused = refusal(&format!("{{\"_class_name\": \"{class}\"}}"));
        assert!(refused.contains(reason), "{refused}");
    }
    assert!(refusal("{}").starts_with("s.json: _class_name = \"\": supported are"));
    for text in ["", "[1]", "{", "{\"a\": -Infinity", "\"\\"] {
        assert!(refusal(text).starts_with("s.json: "), "{text}");
    }
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
            "flow_prediction",
            "dpmsolver",
            "sde-dpmsolver++",
            "heun",
            "bh1",
            "log_linear",
            "linspace",
        ])
        .prop_map(Value::from),
        proptest::collection::vec(0.0..1.1_f64, 0..4).prop_map(Value::from),
    ]
}

/// The classes that are followed.
fn classes() -> Vec<&'static str> {
    Scheduler::classes().collect()
}

proptest! {
    /// Whatever a file says, it is read or refused, and so are steps; what is read can be run.
    #[test]
    fn no_file_panics(
        class in proptest::sample::select(classes()),
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
            "sigma_min", "predict_epsilon", "skip_prk_steps", "sigma_max", "rho", "sigma_data",
            "shift", "flow_shift", "use_flow_sigmas", "shift_terminal", "use_beta_sigmas",
            "use_exponential_sigmas", "interpolation_type", "original_inference_steps",
            "timestep_scaling", "algorithm_type", "solver_type", "lambda_min_clipped",
            "euler_at_final", "corrector_order", "predictor_order", "predict_x0",
        ];
        let keys = values.iter().map(|(key, value)| (known[key.index(known.len())].to_owned(), value.clone()));
        let keys: Map<String, Value> = keys.collect();
        if let Ok(found) = Scheduler::parse(&text(class, &Value::Object(keys)), "s.json") {
            for n in [n, few] {
                if let Ok(levels) = found.levels(n) {
                    let rises = |(t, s): (ddpm_schedule::NoiseLevel, ddpm_schedule::NoiseLevel)| {
                        t.log_snr() < s.log_snr()
                    };
                    let inverse = class == "DPMSolverMultistepInverseScheduler";
                    assert!(levels.pairs().all(|pair| rises(pair) != inverse));
                    let rule = found.rule(&levels);
                    let clock = found.clock(&levels);
                    assert!(levels.pairs().all(|(t, _)| clock.time(t).is_finite()));
                    let _ = steps(&rule, levels.as_slice());
                }
            }
        }
    }

    #[test]
    fn no_text_panics(text in "[{}\\[\\]\":,\\\\a-zI0-9é-]{0,40}") {
        let _ = Scheduler::parse(&text, "s.json");
    }
}
