//! `ddpm export`, `sample --from` and `train --init-from`, from the outside.

use std::fs;
use std::path::Path;

use ddpm_interop::diffusers;
use ddpm_model::UNetConfig;
use ddpm_model::weights::read_tensor;
use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
use serde_json::Value;

use super::fixture;
use crate::run::{ok, refused, samples, tiny};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A run's export, sampled as a folder of diffusers, is the run where both have one process; its
/// weights are the averages, bit for bit.
#[test]
fn an_export_is_the_averaged_network() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run");
    ok(folder, "export --from run --to averages --format diffusers");
    ok(
        folder,
        "export --from run --to raw --format diffusers --raw-weights",
    );
    let checkpoint = folder.join("run/checkpoints/step-00000004");
    for (export, weights) in [("averages", "ema"), ("raw", "model")] {
        let export = folder
            .join(export)
            .join("unet/diffusion_pytorch_model.safetensors");
        let weights = checkpoint.join(weights).with_extension("safetensors");
        assert_eq!(fs::read(export).unwrap(), fs::read(weights).unwrap());
    }
    let index = json(&folder.join("averages/model_index.json"));
    assert_eq!(index["_class_name"], "DDIMPipeline");
    assert_eq!(index["unet"][1], "UNet2DModel");
    assert_eq!(index["scheduler"][1], "DDIMScheduler");

    let unet = diffusers::unet(&folder.join("averages")).unwrap();
    assert_eq!(unet.sample_size, Some([8, 8]));
    let expected = UNetConfig {
        block_out_channels: vec![8, 8],
        layers_per_block: 1,
        attention: vec![false, true],
        norm_num_groups: 4,
        dropout: 0.1,
        downsample_padding: 1,
        // Ten digits, and the null class, which files do not tell from classes.
        num_classes: Some(11),
        null_class: false,
        ..UNetConfig::cifar10()
    };
    assert_eq!(unet.config, expected);
    assert_eq!(unet.channels, [1, 1]);

    let draw = "sample --num 3 --sampler ddim --steps 3 --raw --class 2";
    ok(folder, &format!("{draw} --from averages --out theirs"));
    assert!(!samples(&folder.join("theirs")).is_empty());
    refused(
        folder,
        &format!("{draw} --from averages --guidance 2 --out x"),
        1,
        &["--guidance", "mean none"],
    );
    refused(
        folder,
        "export --from run --to raw --format diffusers",
        1,
        &["raw", "exists already"],
    );
}

/// The folder says what the run knew: with the same noise, class and steps the same images, but for
/// the roundings of a schedule that is named rather than computed.
#[test]
fn an_exported_run_samples_as_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run");
    ok(folder, "export --from run --to export --format diffusers");
    let scheduler = json(&folder.join("export/scheduler/scheduler_config.json"));
    assert_eq!(scheduler["prediction_type"], "v_prediction");
    for sampler in ["ddim", "dpmpp-2m", "ddpm"] {
        let values = |from: &str| -> Vec<f32> {
            let draw = format!(
                "sample --num 3 --sampler {sampler} --clipped-epsilon derived --steps 5 --raw --class 2"
            );
            ok(
                folder,
                &format!("{draw} --from {from} --out {from}-{sampler}"),
            );
            let bytes = samples(&folder.join(format!("{from}-{sampler}")));
            let (words, _) = bytes.as_chunks::<4>();
            words.iter().map(|word| f32::from_le_bytes(*word)).collect()
        };
        for (ours, theirs) in values("run").into_iter().zip(values("export")) {
            assert!((ours - theirs).abs() < 1e-4, "{sampler}: {ours} {theirs}");
        }
    }
}

#[test]
fn what_diffusers_cannot_express_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let walk = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let walk = walk.replace("kind = \"cosine\"", "kind = \"random-walk\"");
    fs::write(folder.join("walk.toml"), walk).unwrap();
    ok(folder, "train --config walk.toml --out walk --steps 2");
    refused(
        folder,
        "export --from walk --to export --format diffusers",
        1,
        &["random-walk", "preserve variance"],
    );
    assert!(
        !folder.join("export").exists(),
        "a refused export writes nothing"
    );
}

/// With a learning rate that moves nothing, the run's weights are the folder's.
#[test]
fn a_run_begins_with_a_folders_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run --steps 2");
    ok(folder, "export --from run --to export --format diffusers");
    let still = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let still = still
        .replace(
            "learning_rate = 1e-3",
            "learning_rate = 1e-30\nweight_decay = 0.0",
        )
        .replace("channels = [8, 8]", "channels = [4, 4]");
    fs::write(folder.join("still.toml"), still).unwrap();
    ok(
        folder,
        "train --config still.toml --out again --steps 2 --init-from export",
    );
    let name = "down_blocks.0.resnets.0.conv1.weight";
    let weights = |path: &str| read_tensor(&folder.join(path), name).unwrap();
    let checkpoint = "again/checkpoints/step-00000002/model.safetensors";
    let export = "export/unet/diffusion_pytorch_model.safetensors";
    assert_eq!(weights(checkpoint), weights(export));
    // The run's own configuration is the folder's network from now on.
    ok(folder, "train --out again --resume --steps 4");
    ok(
        folder,
        "sample --from again --num 2 --steps 2 --out drawn --guidance 2",
    );

    let colour = fixture("flat").join("theirs").display().to_string();
    // That network has no classes.
    let plain = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let plain = plain.replace("class_dropout = 0.1\n", "");
    fs::write(folder.join("plain.toml"), plain).unwrap();
    refused(
        folder,
        &format!("train --config plain.toml --out colour --init-from {colour}"),
        1,
        &["in_channels = 3", "images have 1"],
    );
    assert!(
        !folder.join("colour").exists(),
        "a refused run makes no folder"
    );
}

/// A network is trained on by the objective it has been trained by.
#[test]
fn a_folder_of_another_objective_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run --steps 2");
    ok(folder, "export --from run --to export --format diffusers");
    let file = folder.join("export/scheduler/scheduler_config.json");
    let theirs = json(&file);
    let train = "train --config tiny.toml --steps 2 --init-from export --out";
    for (key, value, words) in [
        (
            "prediction_type",
            Value::from("sample"),
            ["prediction_type = \"sample\"", "predict \"v_prediction\""],
        ),
        (
            "num_train_timesteps",
            Value::from(500),
            ["num_train_timesteps = 500", "on 1000 timesteps"],
        ),
        (
            // From 1 − ᾱ₁ = 10⁻⁴; the cosine's is 4·10⁻⁵.
            "beta_schedule",
            Value::from("linear"),
            ["beta_schedule = (ᾱ at t = 1) 0.9999", "with 0.99995"],
        ),
    ] {
        let mut keys = theirs.clone();
        keys[key] = value;
        fs::write(&file, keys.to_string()).unwrap();
        let named = [&words[..], &["scheduler_config.json"]].concat();
        refused(folder, &format!("{train} other"), 1, &named);
    }
    assert!(!folder.join("other").exists());
    fs::remove_file(&file).unwrap();
    ok(folder, &format!("{train} none"));
}

/// β in single precision are the same schedule.
#[test]
fn rounded_betas_are_the_same_objective() {
    let folder = tempfile::tempdir().unwrap();
    let schedule = NoiseSchedule::cosine(1000, 0.008).unwrap();
    #[expect(clippy::cast_possible_truncation, reason = "this is the matter")]
    let betas: Vec<f32> = schedule.iter().map(|t| schedule.beta(t) as f32).collect();
    let keys = serde_json::json!({
        "_class_name": "DDIMScheduler", "trained_betas": betas, "prediction_type": "v_prediction",
    });
    fs::write(
        folder.path().join("scheduler_config.json"),
        keys.to_string(),
    )
    .unwrap();
    let objective = Objective::new(schedule, Parametrization::V, Weighting::Simple).unwrap();
    diffusers::check_objective(folder.path(), &objective).unwrap();
}
