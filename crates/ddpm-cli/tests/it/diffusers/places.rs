//! Paths that are no folder of diffusers, and what `ddpm` says of them and of the files it reads.

use std::fs;
use std::path::Path;

use ddpm_model::weights::read_tensor;
use serde_json::json;
use tempfile::TempDir;

use super::{edit, fixture, refusal};
use crate::checkpoints::seal;
use crate::run::{ddpm, ok, refused, tiny};

const DRAW: &str = "sample --num 1 --steps 2 --raw";

/// A pipeline's folder `pipe`, in another.
fn pipeline() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    put_pipeline(folder.path());
    folder
}

/// Makes a pipeline's folder `pipe` in this one.
pub(crate) fn put_pipeline(folder: &Path) {
    let from = fixture("old").join("theirs");
    for file in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ] {
        let to = folder.join("pipe").join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from.join(file), to).unwrap();
    }
}

/// Makes the first value of a pipeline's last bias NaN.
pub(crate) fn spoil(pipeline: &Path) {
    let file = pipeline.join("unet/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let bias = tensors.tensor("conv_out.bias").unwrap().data().as_ptr();
    let at = bias as usize - bytes.as_ptr() as usize;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&file, bytes).unwrap();
}

/// `sample --from` such a path says this, and leaves nothing behind.
#[track_caller]
fn assert_refused(folder: &Path, from: &str, message: &str) {
    let output = ddpm(folder, &format!("{DRAW} --from {from} --out s"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.trim_end(), format!("error: {message}"));
    assert_eq!(output.status.code(), Some(1));
    assert!(!folder.join("s").exists());
}

#[test]
fn a_wrong_path_is_named_with_the_right_one() {
    let folder = pipeline();
    let folder = folder.path();
    for (from, message) in [
        (
            ".",
            ".: is neither a run nor a folder of diffusers, but ./pipe is",
        ),
        (
            "pipe/model_index.json",
            "pipe/model_index.json: is a file; give its folder, pipe",
        ),
        (
            "pipe/unet/diffusion_pytorch_model.safetensors",
            "pipe/unet/diffusion_pytorch_model.safetensors: is a file; give its folder, pipe",
        ),
        (
            "pipe/scheduler",
            "pipe/scheduler: is neither a run, which has checkpoints, nor a folder of diffusers, \
             which has model_index.json, config.json or unet/config.json",
        ),
        (
            "pipe/unet",
            "pipe/unet: holds neither scheduler/scheduler_config.json nor scheduler_config.json; \
             copy the folder scheduler of the network's pipeline into it",
        ),
    ] {
        assert_refused(folder, from, message);
    }
    let start = fs::canonicalize(folder).unwrap();
    let start = start.display();
    let missing = format!("--from pipes: no such file or folder; relative paths start at {start}");
    assert_refused(folder, "pipes", &missing);
    fs::remove_file(folder.join("pipe/unet/config.json")).unwrap();
    assert_refused(
        folder,
        "pipe",
        "pipe: is a pipeline without unet/config.json; only pipelines whose network is a \
         UNet2DModel, in the folder unet, can be read",
    );
    assert_refused(
        folder,
        "pipe/unet",
        "pipe/unet: has diffusion_pytorch_model.safetensors, but no config.json, which \
         describes the network; copy it from the source of the weights",
    );
    fs::write(folder.join("alone.ckpt"), "").unwrap();
    assert_refused(
        folder,
        "alone.ckpt",
        "alone.ckpt: is a file; give a folder, of a run or of diffusers",
    );
}

/// The folders of a cache of downloads lie two levels deep.
#[test]
fn a_folder_further_down_is_found() {
    let folder = pipeline();
    let folder = folder.path();
    fs::create_dir_all(folder.join("models--a--b/refs")).unwrap();
    fs::create_dir_all(folder.join("models--a--b/snapshots")).unwrap();
    fs::rename(
        folder.join("pipe"),
        folder.join("models--a--b/snapshots/0a"),
    )
    .unwrap();
    assert_refused(
        folder,
        "models--a--b",
        "models--a--b: is neither a run nor a folder of diffusers, but \
         models--a--b/snapshots/0a is",
    );
}

#[test]
fn runs_and_folders_of_diffusers_are_told_apart() {
    let folder = pipeline();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --steps 2 --out run");
    let run = folder.join("run");
    let message = format!(
        "{0}: is a run, not a folder of diffusers; `ddpm export --from {0} --to NEW --format \
         diffusers` converts it",
        run.display()
    );
    assert_eq!(refusal(&run), message);
    assert_refused(
        folder,
        "run/checkpoints",
        "run/checkpoints: is neither a run nor a folder of diffusers, but \
         run/checkpoints/step-00000002 is",
    );
    let words = ["error: pipe: is a folder of diffusers; this needs a run"];
    for command in [
        "export --from pipe --to new --format diffusers",
        "eval nll --from pipe",
    ] {
        refused(folder, command, 1, &words);
    }
}

/// What is ignored is said once a file, and what is drawn is what is drawn without it.
#[test]
fn ignored_keys_are_said_once() {
    let folder = pipeline();
    let folder = folder.path();
    ok(folder, &format!("{DRAW} --from pipe --out plain"));
    edit(&folder.join("pipe/unet/config.json"), |config| {
        config.insert("decay".to_owned(), json!(0.9999));
    });
    let scheduler = folder.join("pipe/scheduler/scheduler_config.json");
    edit(&scheduler, |config| {
        config.insert("skip_prk_steps".to_owned(), json!(true));
        config.insert("interpolation_type".to_owned(), json!("linear"));
    });
    let output = ddpm(folder, &format!("{DRAW} --from pipe --out noted"));
    let errors = String::from_utf8_lossy(&output.stderr);
    let notes: Vec<&str> = errors
        .lines()
        .filter(|line| line.starts_with("note: "))
        .collect();
    assert_eq!(
        notes,
        [
            "note: pipe/unet/config.json: ignores keys that say how the weights were averaged: \
             decay",
            "note: pipe/scheduler/scheduler_config.json: ignores keys that a DDPMScheduler does \
             not have: interpolation_type, skip_prk_steps",
        ]
    );
    let [plain, noted] = ["plain", "noted"].map(|out| {
        let file = folder.join(out).join("samples.safetensors");
        read_tensor(&file, "samples").unwrap()
    });
    assert_eq!(plain, noted);
}

#[test]
fn weights_that_are_not_finite_are_not_drawn_from() {
    let folder = pipeline();
    spoil(&folder.path().join("pipe"));
    assert_refused(
        folder.path(),
        "pipe",
        "pipe/unet/diffusion_pytorch_model.safetensors: conv_out.bias holds NaN; the weights of a \
         network are finite",
    );
}

/// Fine-tuning says the same of the same folder, before it makes anything.
#[test]
fn a_run_begins_with_no_less_than_samples_do() {
    let folder = pipeline();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --steps 2 --out run");
    ok(folder, "export --from run --to theirs --format diffusers");
    edit(
        &folder.join("theirs/scheduler/scheduler_config.json"),
        |config| {
            config.insert("skip_prk_steps".to_owned(), json!(true));
        },
    );
    let train = "train --config tiny.toml --steps 2 --init-from theirs --out";
    let output = ddpm(folder, &format!("{train} again"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let note = "note: theirs/scheduler/scheduler_config.json: ignores keys that a DDIMScheduler \
                does not have: skip_prk_steps, variance_type\n";
    assert_eq!(errors.matches(note).count(), 1, "{errors}");

    spoil(&folder.join("theirs"));
    let words = ["conv_out.bias holds NaN"];
    refused(folder, &format!("{train} spoilt"), 1, &words);
    assert!(!folder.join("spoilt").exists());
}

/// A checkpoint of a run that is none of its network is named tensor by tensor.
#[test]
fn weights_of_another_run_are_named_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --steps 2 --out run");
    let checkpoint = folder.join("run/checkpoints/step-00000002");
    let config = checkpoint.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let wider = text.replace("channels = [\n    8,\n    8,\n]", "channels = [8, 16]");
    let wider = wider.replace("channels = [8, 8]", "channels = [8, 16]");
    assert_ne!(text, wider);
    fs::write(&config, wider).unwrap();
    seal(&checkpoint);
    let output = ddpm(folder, "sample --from run --num 1 --steps 2 --out s");
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = errors.lines().collect();
    assert!(
        lines[0].contains("ema.safetensors: these are not the network's weights: "),
        "{errors}"
    );
    assert!(
        errors.contains(
            "\n  mis-shaped down_blocks.1.resnets.0.conv1.weight [8, 8, 3, 3], not [16, 8, 3, 3]"
        ),
        "{errors}"
    );
    assert_eq!(lines.len(), 1 + 10 + 1, "{errors}");
}
