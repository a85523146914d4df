//! The program from the outside: trains, resumes, samples, refuses.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ddpm_cli::config::{Config, RECIPES};
use ddpm_cli::plan::Plan;

use crate::checkpoints::seal;

pub(crate) fn ddpm(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ddpm"))
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

/// Runs the program, which must succeed.
pub(crate) fn ok(folder: &Path, arguments: &str) {
    let output = ddpm(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ddpm {arguments}: {errors}");
}

/// Runs the program, which must refuse with this exit code and these words on one line.
pub(crate) fn refused(folder: &Path, arguments: &str, code: i32, words: &[&str]) {
    let output = ddpm(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "ddpm {arguments}: {errors}"
    );
    for word in words {
        assert!(
            errors.contains(word),
            "ddpm {arguments}: no {word:?} in {errors}"
        );
    }
    assert!(!errors.contains("panicked"), "{errors}");
}

/// The bytes of the values that `--raw` wrote.
pub(crate) fn samples(folder: &Path) -> Vec<u8> {
    let bytes = fs::read(folder.join("samples.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor("samples").unwrap().data().to_vec()
}

/// A digits run small enough for a test: every part of it, few channels and steps.
pub(crate) fn tiny(folder: &Path) {
    let recipe = RECIPES[0].1;
    let tiny = recipe
        .replace("channels = [32, 64]", "channels = [8, 8]\ndropout = 0.1")
        .replace("norm_num_groups = 8", "norm_num_groups = 4")
        .replace("batch_size = 64", "batch_size = 8\naccumulate = 2")
        .replace("\nsteps = 1000", "\nsteps = 4")
        .replace("steps = 50", "steps = 3")
        .replace("count = 100", "count = 3")
        .replace("every = 250", "every = 2");
    fs::write(folder.join("tiny.toml"), tiny).unwrap();
}

#[test]
fn every_recipe_is_complete() {
    for (name, text) in RECIPES {
        let mut config = Config::parse(text, name).unwrap();
        assert_eq!(config.name, name);
        if config.data.kind.has_path() {
            config.data.path = Some("data".into());
        }
        Plan::new(config, name).unwrap();
    }
}

/// Times drawn by the losses before: with four timesteps and eight rows a step, all have their ten
/// losses after about six of twelve steps.
#[test]
fn a_run_remembers_its_losses() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let learned = "class_dropout = 0.1\nlearned_variance = true\nimportance_sampling = true\n\
                   stratified = true";
    let config = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let config = config
        .replace("class_dropout = 0.1", learned)
        .replace("timesteps = 1000", "timesteps = 4")
        .replace("sampler = \"ddim\"", "sampler = \"ddpm-learned\"")
        .replace("\nsteps = 4", "\nsteps = 12")
        .replace("every = 2", "every = 6");
    fs::write(folder.join("tiny.toml"), config).unwrap();
    ok(folder, "train --config tiny.toml --out whole");
    let losses = fs::read(folder.join("whole/checkpoints/step-00000012/losses.safetensors"));
    let losses = losses.unwrap();
    let losses = safetensors::SafeTensors::deserialize(&losses).unwrap();
    let losses = losses.tensor("losses").unwrap();
    assert_eq!(losses.shape(), [4, 10]);
    let (values, _) = losses.data().as_chunks::<4>();
    assert!(
        values.iter().all(|v| f32::from_le_bytes(*v).is_finite()),
        "not full"
    );
    ok(
        folder,
        "sample --from whole --num 2 --sampler dpmpp-2m --out plain",
    );
    ok(folder, "eval nll --from whole --num 2");
}

/// Sample k is a function of the seed and k: the same bytes however many others are drawn.
#[test]
fn samples_do_not_depend_on_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run");
    refused(
        folder,
        "sample --from run --sampler dpmpp-2m --eta 0.5 --out x",
        1,
        &["dpmpp-2m has no eta"],
    );
    for (num, out) in [(20, "many"), (3, "few")] {
        for sampler in ["ddpm", "ddpm-large", "ddim", "dpmpp-2m"] {
            let arguments = format!(
                "sample --from run --num {num} --sampler {sampler} --steps 3 --film --raw --out {out}/{sampler}"
            );
            ok(folder, &arguments);
        }
    }
    for sampler in ["ddpm", "ddpm-large", "ddim", "dpmpp-2m"] {
        let values = |out: &str| samples(&folder.join(out).join(sampler));
        let few = values("few");
        assert_eq!(few.len(), 3 * 64 * 4);
        assert_eq!(values("many")[..few.len()], few[..], "{sampler}");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    refused(
        folder,
        "train --recipe mnist",
        1,
        &["mnist", "digits, digits-edm, images, fashion-mnist"],
    );
    refused(
        folder,
        "train --backend metal",
        2,
        &["metal", "flex, ndarray, cuda, vulkan"],
    );
    refused(folder, "train --backend cuda", 2, &["cuda"]);
    refused(
        folder,
        "train --recipe cifar10",
        1,
        &["data.path", "--data"],
    );
    refused(
        folder,
        "train --recipe cifar10 --data nowhere",
        1,
        &["data.path nowhere", "no such file"],
    );
    refused(folder, "train --config absent.toml", 1, &["absent.toml"]);
    let config = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let config = config.replace("\"ddim\"", "\"ddpm-learned\"");
    fs::write(folder.join("learned.toml"), config).unwrap();
    refused(
        folder,
        "train --config learned.toml",
        1,
        &["sampling.sampler", "learned_variance"],
    );
    refused(folder, "train --steps 0", 1, &["steps", "at least 1"]);
    refused(
        folder,
        "train --out new --resume",
        1,
        &["error: new holds no run to resume"],
    );
    assert!(!folder.join("new").exists());
    refused(folder, "sample --from nowhere", 1, &["nowhere"]);
    for (from, to, words) in [
        ("seed = 0", "sed = 0", &["bad.toml", "sed"]),
        (
            "timesteps = 1000",
            "timesteps = 0",
            &["bad.toml", "process"],
        ),
        (
            "timesteps = 1000",
            "timesteps = 1000\nsigma = 0.1",
            &["process", "sigma = 0.1"],
        ),
        (
            "weighting = \"simple\"",
            "weighting = \"simple\"\ngamma = 5",
            &["objective", "gamma = 5"],
        ),
        ("\ndropout = 0.1", "\ndropout = 1.5", &["model", "1.5"]),
        ("decay = 0.995", "decay = nan", &["ema.decay", "NaN"]),
        (
            "channels = [8, 8]",
            "channels = [8, 9]",
            &["model", "9 channels"],
        ),
        (
            "num_classes = 10",
            "num_classes = 7",
            &["num_classes", "10 classes"],
        ),
        (
            "accumulate = 2",
            "accumulate = 3",
            &["accumulate", "divisor"],
        ),
        (
            "timesteps = 1000",
            "timesteps = 4294967295",
            &["process", "more than 1000000"],
        ),
        (
            "kind = \"digits\"",
            "kind = \"digits\"\nworkers = 1000000000",
            &["data.workers", "1000000000 must be at most 1024"],
        ),
    ] {
        let text = fs::read_to_string(folder.join("tiny.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(folder.join("bad.toml"), text.replacen(from, to, 1)).unwrap();
        refused(folder, "train --config bad.toml --out bad", 1, words);
    }
}

#[test]
fn a_broken_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run --steps 2");
    refused(
        folder,
        "train --config tiny.toml --out run",
        1,
        &["--resume"],
    );
    refused(
        folder,
        "sample --from run --class 10",
        1,
        &["--class 10", "0 to 9"],
    );
    refused(folder, "sample --from run --eta 2", 1, &["2"]);
    refused(folder, "sample --from run --steps 1001", 1, &["1001"]);
    let checkpoint = folder.join("run/checkpoints/step-00000002");
    let state = checkpoint.join("state.json");
    let text = fs::read_to_string(&state).unwrap();
    // Points, nothing, an image that cannot be halved, other channels than the weights'.
    for (shape, words) in [
        ("[2]", "[2]"),
        ("[]", "[]"),
        ("[1, 7, 8]", "7"),
        ("[3, 8, 8]", "ema.safetensors"),
    ] {
        let mut broken: serde_json::Value = serde_json::from_str(&text).unwrap();
        broken["shape"] = serde_json::from_str(shape).unwrap();
        fs::write(&state, broken.to_string()).unwrap();
        refused(folder, "sample --from run", 1, &["state.json"]);
        seal(&checkpoint);
        refused(folder, "sample --from run", 1, &[words]);
    }
    fs::write(&state, text).unwrap();
    let weights = checkpoint.join("ema.safetensors");
    let bytes = fs::read(&weights).unwrap();
    for broken in [&bytes[..0], &bytes[..7], &bytes[..bytes.len() / 2]] {
        fs::write(&weights, broken).unwrap();
        seal(&checkpoint);
        refused(folder, "sample --from run", 1, &["ema.safetensors"]);
    }
}

#[test]
fn a_schedule_is_printed_to_17_digits() {
    let folder = tempfile::tempdir().unwrap();
    let output = ddpm(folder.path(), "schedule --format csv");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("t,beta,alpha_bar,signal,noise,log_snr,posterior_variance")
    );
    assert_eq!(lines.clone().count(), 1000);
    let first: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(first[0], "1");
    // ᾱ₁ = 1 − 10⁻⁴.
    assert!((first[2].parse::<f64>().unwrap() - 0.9999).abs() < 1e-15);
}

#[test]
fn a_schedules_numbers_can_be_given() {
    let folder = tempfile::tempdir().unwrap();
    let last = |arguments: &str| {
        let output = ddpm(folder.path(), &format!("schedule --format csv {arguments}"));
        let text = String::from_utf8(output.stdout).unwrap();
        let last = text.lines().last().unwrap().split(',');
        last.map(|value| value.parse::<f64>().unwrap())
            .collect::<Vec<f64>>()
    };
    // Column 1 is β, 2 is ᾱ, 4 the noise's standard deviation.
    assert!((last("--beta-start 0.001 --beta-end 0.03")[1] - 0.03).abs() < 1e-15);
    assert!((last("--kind random-walk --timesteps 9 --sigma 0.5")[4] - 1.5).abs() < 1e-15);
    assert_eq!(last("--kind cosine --zero-terminal-snr")[2], 0.0);
    refused(
        folder.path(),
        "schedule --kind cosine --sigma 1",
        1,
        &["sigma = 1"],
    );
}
