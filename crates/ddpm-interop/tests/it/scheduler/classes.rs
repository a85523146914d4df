//! What the classes beside DDPM, DDIM and DPM-Solver read: files as diffusers writes them, times, and
//! what they refuse.

use ddpm_interop::diffusers::scheduler::{Boundary, Scheduler};
use ddpm_schedule::NoiseLevel;
use serde_json::{Value, json};

use super::{read, rule, steps, text};

/// Every class without any key: the solver by its name, the times of four steps, the steps that
/// its pipelines take.
#[test]
fn every_class_has_defaults() {
    for class in Scheduler::classes() {
        let found = read(class, json!({}));
        let levels = found.levels(4).unwrap();
        assert!(!found.rule(&levels).name().is_empty());
        assert!(levels.len() >= 3, "{class}");
        assert_eq!(found.note, None);
        assert!([4, 50, 1000].contains(&found.default_steps()), "{class}");
    }
    for (class, name, numbers) in [
        ("UnCLIPScheduler", "ddpm", ""),
        ("PNDMScheduler", "pndm", ""),
        ("IPNDMScheduler", "ipndm", "order 4"),
        ("EulerDiscreteScheduler", "euler", ""),
        ("EulerAncestralDiscreteScheduler", "euler-ancestral", ""),
        ("HeunDiscreteScheduler", "heun", ""),
        ("LMSDiscreteScheduler", "lms", "order 4"),
        ("KDPM2DiscreteScheduler", "dpm2", ""),
        ("KDPM2AncestralDiscreteScheduler", "dpm2-ancestral", ""),
        (
            "DPMSolverMultistepScheduler",
            "dpmpp-2m",
            "order 2, midpoint",
        ),
        (
            "DPMSolverSinglestepScheduler",
            "dpmpp-2s",
            "order 2, midpoint, of lower order at the end",
        ),
        ("DEISMultistepScheduler", "deis", "order 2, logrho"),
        (
            "UniPCMultistepScheduler",
            "unipc",
            "order 2, bh2, of x0, of lower order at the end",
        ),
        (
            "SASolverScheduler",
            "sa-solver",
            "predictor 2, corrector 2, of lower order at the end",
        ),
        ("LCMScheduler", "lcm", ""),
        ("TCDScheduler", "tcd", "gamma 0.3"),
        ("EDMEulerScheduler", "euler", ""),
        ("FlowMatchHeunDiscreteScheduler", "heun-flow", ""),
    ] {
        let found = rule(&read(class, json!({})));
        assert_eq!(
            (found.name(), found.numbers().as_str()),
            (name, numbers),
            "{class}"
        );
    }
}

/// What `save_pretrained` writes of Euler's class, key for key.
#[test]
fn a_file_that_spells_out_the_defaults_is_the_default() {
    let keys = json!({
        "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001,
        "final_sigmas_type": "zero", "interpolation_type": "linear", "num_train_timesteps": 1000,
        "prediction_type": "epsilon", "rescale_betas_zero_snr": false, "sigma_max": null,
        "sigma_min": null, "steps_offset": 0, "timestep_spacing": "linspace",
        "timestep_type": "discrete", "trained_betas": null, "use_beta_sigmas": false,
        "use_exponential_sigmas": false, "use_karras_sigmas": false,
    });
    let class = "EulerDiscreteScheduler";
    assert_eq!(read(class, keys), read(class, json!({})));
    let keys = json!({
        "base_image_seq_len": 256, "base_shift": 0.5, "invert_sigmas": false,
        "max_image_seq_len": 4096, "max_shift": 1.15, "num_train_timesteps": 1000, "shift": 1.0,
        "shift_terminal": null, "stochastic_sampling": false, "time_shift_type": "exponential",
        "use_beta_sigmas": false, "use_dynamic_shifting": false, "use_exponential_sigmas": false,
        "use_karras_sigmas": false,
    });
    let class = "FlowMatchEulerDiscreteScheduler";
    assert_eq!(read(class, keys), read(class, json!({})));
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn assert_times(class: &str, keys: Value, expected: &[f64]) {
    let n = u32::try_from(expected.len()).unwrap();
    let found = steps(&read(class, keys.clone()), n);
    assert_eq!(found.len(), expected.len(), "{class} {keys}");
    for (found, expected) in found.iter().zip(expected) {
        let off = (found - expected).abs();
        assert!(
            off < 5e-8 * expected.abs().max(1.0),
            "{class} {keys}: {found} {expected}"
        );
    }
}

/// Times of diffusers: fractions, rounded and cut off.
#[test]
fn each_class_tells_its_own_times() {
    let long = |keys: &Value| {
        let mut keys = keys.clone();
        keys["num_train_timesteps"] = json!(1100);
        keys["beta_start"] = json!(1e-4);
        keys["beta_end"] = json!(0.02);
        keys
    };
    let karras = json!({ "use_karras_sigmas": true });
    let fractions = [
        1099.0, 1035.5398, 961.052_56, 871.099_03, 757.833_11, 605.779_67, 387.290_49, 139.533_01,
        23.535_209, 0.0,
    ];
    assert_times("EulerDiscreteScheduler", long(&karras), &fractions);
    let rounded = fractions.map(f64::round);
    assert_times("KDPM2DiscreteScheduler", long(&karras), &rounded);
    let even: Vec<f64> = (0..10).rev().map(|i| f64::from(i) * 1099.0 / 9.0).collect();
    assert_times("HeunDiscreteScheduler", long(&json!({})), &even);
    let multistep = "DPMSolverMultistepScheduler";
    let times = [
        999.0, 937.0, 864.0, 775.0, 663.0, 511.0, 301.0, 102.0, 18.0, 0.0,
    ];
    assert_times(multistep, karras, &times);
    let [lu, exponential] = ["use_lu_lambdas", "use_exponential_sigmas"]
        .map(|key| steps(&read(multistep, json!({ key: true })), 10));
    let pairs = lu.into_iter().zip(exponential);
    let different: Vec<_> = pairs.filter(|(lu, cut)| lu != cut).collect();
    let expected = [
        (603.0, 602.0),
        (410.0, 409.0),
        (73.0, 72.0),
        (22.0, 21.0),
        (5.0, 4.0),
    ];
    assert_eq!(different, expected);
}

#[test]
fn consistency_models_have_boundaries() {
    assert_times("LCMScheduler", json!({}), &[999.0, 759.0, 499.0, 259.0]);
    assert_times("TCDScheduler", json!({}), &[999.0]);
    let lcm = read("LCMScheduler", json!({ "timestep_scaling": 4.0 }));
    let boundary = lcm.boundary.unwrap();
    assert_eq!(boundary, Boundary::Time { scaling: 4.0 });
    let at = NoiseLevel::variance_preserving(0.5).unwrap();
    assert_eq!(boundary.factors(at, 0.0), [1.0, 0.0]);
    let cm = read("CMStochasticIterativeScheduler", json!({}));
    let floor = NoiseLevel::variance_exploding(0.002).unwrap();
    let factors = cm.boundary.unwrap().factors(floor, 0.0);
    assert!((factors[0] - 1.0).abs() < 1e-12 && factors[1].abs() < 1e-12);
    let levels = cm.levels(2).unwrap();
    let clock = cm.clock(&levels);
    let off = clock.time(levels.start()) - 1_095.506_658_668_470_2;
    assert!(off.abs() < 1e-9, "{off}");
}

/// Levels and times of §8 of flows: σ 0.9600431965, 0.9131455399, … with shift 3.
#[test]
fn flows_are_shifted_once() {
    let class = "FlowMatchEulerDiscreteScheduler";
    let sigmas = [
        1.0,
        0.960_043_196_5,
        0.913_145_539_9,
        0.857_326_478_1,
        0.789_772_727_3,
        0.706_349_206_3,
        0.600_719_424_5,
        0.462_655_601_7,
        0.274_509_803_9,
        0.002_994_011_976,
    ];
    assert_times(
        class,
        json!({ "shift": 3.0 }),
        &sigmas.map(|sigma| sigma * 1000.0),
    );
    let stretched = steps(&read(class, json!({ "shift_terminal": 0.02 })), 4);
    assert!((stretched[0] - 1000.0).abs() < 1e-9 && (stretched[3] - 20.0).abs() < 1e-9);
    // UniPC's σ of Karras' rule as odds.
    let keys = json!({
        "use_flow_sigmas": true, "use_karras_sigmas": true, "sigma_min": 0.01, "sigma_max": 200.0,
        "prediction_type": "flow_prediction",
    });
    let found = read("UniPCMultistepScheduler", keys);
    let levels = found.levels(5).unwrap();
    let sigmas = levels
        .as_slice()
        .iter()
        .map(|at| at.noise() / (at.signal() + at.noise()));
    let expected = [
        0.995_024_859_905_242_9,
        0.978_745_460_510_253_9,
        0.877_488_434_314_727_8,
        0.360_497_176_647_186_3,
        0.009_900_986_216_962_337,
        0.0,
    ];
    for (sigma, expected) in sigmas.zip(expected) {
        // Single precision.
        assert!((sigma - expected).abs() < 1e-6, "{sigma} {expected}");
    }
}

/// What would change the result and is not supported.
#[test]
fn keys_of_the_others_are_refused_by_name() {
    let refusals: [(&str, Value, &str); 11] = [
        (
            "EulerDiscreteScheduler",
            json!({ "timestep_type": "continuous", "prediction_type": "v_prediction" }),
            "timestep_type = \"continuous\": supported is \"discrete\"",
        ),
        (
            "EulerAncestralDiscreteScheduler",
            json!({ "prediction_type": "sample" }),
            "prediction_type = \"sample\": supported are \"epsilon\" and \"v_prediction\"",
        ),
        (
            "UniPCMultistepScheduler",
            json!({ "disable_corrector": [0] }),
            "disable_corrector = [0]: not supported; only [] or null is",
        ),
        (
            "UniPCMultistepScheduler",
            json!({ "solver_p": {} }),
            "solver_p = {}: not supported; only null is",
        ),
        (
            "SASolverScheduler",
            json!({ "algorithm_type": "noise_prediction" }),
            "algorithm_type = \"noise_prediction\": not supported; only \"data_prediction\" is",
        ),
        (
            "DPMSolverMultistepScheduler",
            json!({
                "algorithm_type": "sde-dpmsolver", "solver_order": 3,
                "final_sigmas_type": "sigma_min",
            }),
            "solver_order = 3: supported are 1 and 2 with algorithm_type = \"sde-dpmsolver\"",
        ),
        (
            "FlowMatchEulerDiscreteScheduler",
            json!({ "use_dynamic_shifting": true }),
            "use_dynamic_shifting = true: not supported; only false or null is",
        ),
        (
            "FlowMatchLCMScheduler",
            json!({ "scale_factors": [0.5] }),
            "scale_factors = [0.5]: not supported; only null or [] is",
        ),
        (
            "CMStochasticIterativeScheduler",
            json!({ "s_noise": 0.5 }),
            "s_noise = 0.5: not supported; only 1.0 or 1 is",
        ),
        (
            "EDMEulerScheduler",
            json!({ "sigma_min": 90.0 }),
            "sigma_max = 80.0: sigma_max = 80 is outside (sigma_min, ∞)",
        ),
        (
            "DPMSolverMultistepScheduler",
            json!({
                "use_flow_sigmas": true, "prediction_type": "flow_prediction",
                "use_karras_sigmas": true,
            }),
            "use_karras_sigmas = true: not supported together with use_flow_sigmas",
        ),
    ];
    for (class, keys, message) in refusals {
        let error = Scheduler::parse(&text(class, &keys), "s.json")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(&format!("s.json: {message}")), "{error}");
    }
}
