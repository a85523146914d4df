//! Keys that diffusers leaves in the file of a class they do not belong to.

use serde_json::{Value, json};

use super::{CLASSES, read};

/// A file with keys of other classes says what it says without them, and its note names them.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn assert_noted(class: &str, own: Value, others: Value) {
    let keys = others.as_object().unwrap().keys();
    let mut names: Vec<&str> = keys.map(String::as_str).collect();
    names.sort_unstable();
    let note = format!(
        "s.json: ignores keys that a {class} does not have: {}",
        names.join(", ")
    );
    let mut both = own.clone();
    let map = both.as_object_mut().unwrap();
    map.extend(others.as_object().unwrap().clone());
    let mut expected = read(class, own);
    expected.note = Some(note);
    assert_eq!(read(class, both), expected);
}

/// `DDIMScheduler.from_config(ddpm.config)`, saved.
#[test]
fn a_ddim_made_from_a_ddpm_keeps_its_variance_type() {
    let own = json!({ "clip_sample": false, "steps_offset": 1 });
    assert_noted(CLASSES[1], own, json!({ "variance_type": "fixed_small" }));
}

/// A published file, key for key.
#[test]
fn a_published_ddim_has_keys_of_pndm_and_euler() {
    let own = json!({
        "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "clip_sample": false, "clip_sample_range": 1.0, "dynamic_thresholding_ratio": 0.995,
        "num_train_timesteps": 1000, "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": true, "sample_max_value": 1.0, "set_alpha_to_one": false,
        "steps_offset": 1, "thresholding": false, "timestep_spacing": "trailing",
        "trained_betas": null,
    });
    let others = json!({
        "interpolation_type": "linear", "skip_prk_steps": true, "use_karras_sigmas": false,
    });
    assert_noted(CLASSES[1], own, others);
}

#[test]
fn a_ddpm_has_keys_of_euler_or_of_2022() {
    let others = json!({ "sigma_max": null, "sigma_min": null, "timestep_type": "discrete" });
    assert_noted(CLASSES[0], json!({}), others);
    let others = json!({ "tensor_format": "pt", "timestep_values": null });
    assert_noted(
        CLASSES[0],
        json!({ "variance_type": "fixed_large" }),
        others,
    );
}

/// What they say is nothing to the class, whatever it is.
#[test]
fn values_of_other_classes_keys_change_nothing() {
    let others = json!({
        "algorithm_type": "sde-dpmsolver++", "disable_corrector": [0, 1], "final_sigmas_type":
        "sigma_min", "lambda_min_clipped": "-Infinity", "noise_sampler_seed": 7, "predict_x0": true,
        "sigma_max": 80.0, "solver_order": 3, "solver_p": null, "timestep_scaling": 10.0,
        "use_beta_sigmas": true, "use_flow_sigmas": true, "use_karras_sigmas": true,
    });
    for class in [CLASSES[0], CLASSES[1]] {
        assert_noted(class, json!({}), others.clone());
    }
    assert_noted(CLASSES[0], json!({}), json!({ "set_alpha_to_one": false }));
    let others = json!({
        "clip_sample": true, "clip_sample_range": 1.0, "interpolation_type": "linear",
        "set_alpha_to_one": false, "sigma_min": 0.03, "skip_prk_steps": true, "solver_p": null,
    });
    assert_noted(
        CLASSES[2],
        json!({ "variance_type": "fixed_small" }),
        others,
    );
}

/// A solver's own keys that only what is off would read, and its switches as they are written off.
#[test]
fn keys_of_what_is_off_are_nothing_to_note() {
    let keys = json!({
        "flow_shift": 3.0, "time_shift_type": "linear", "use_beta_sigmas": null,
        "use_dynamic_shifting": null, "use_flow_sigmas": null, "use_karras_sigmas": null,
    });
    assert_eq!(read(CLASSES[2], keys), read(CLASSES[2], json!({})));
    let karras = json!({ "use_karras_sigmas": true });
    let with = json!({ "use_karras_sigmas": true, "sigma_max": null, "sigma_min": null });
    assert_eq!(read(CLASSES[2], with), read(CLASSES[2], karras));
}
