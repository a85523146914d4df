//! Exact resume: N steps are k steps, death, and N − k steps, byte for byte, whatever is trained.

use std::fs;
use std::path::Path;

use ddpm_cli::config;

use crate::checkpoints::hash;
use crate::run::{ddpm, ok, refused, tiny};

/// A run of `steps`, and one that loses its second half and goes on with other workers, must have the
/// same state, metrics but for the clock, and pictures.
pub(crate) fn resumes(folder: &Path, config: &str, steps: usize) {
    fs::write(folder.join("run.toml"), config).unwrap();
    for run in ["whole", "halves"] {
        ok(folder, &format!("train --config run.toml --out {run}"));
    }
    let last = folder.join(format!("halves/checkpoints/step-{steps:08}"));
    let picture = format!("samples/step-{steps:08}.png");
    fs::remove_dir_all(last).unwrap();
    fs::remove_file(folder.join("halves").join(&picture)).unwrap();
    let path = folder.join("halves/config.toml");
    let text = fs::read_to_string(&path).unwrap();
    let other = text.replace("workers = 1", "workers = 3");
    assert_ne!(text, other);
    fs::write(&path, other).unwrap();
    ok(folder, "train --out halves --resume");

    assert_eq!(hash(folder, "whole"), hash(folder, "halves"));
    for part in ["model", "ema", "optimizer", "losses"] {
        let part = format!("checkpoints/step-{steps:08}/{part}.safetensors");
        let read = |run| fs::read(folder.join(run).join(&part)).unwrap();
        assert_eq!(read("whole"), read("halves"), "{part}");
    }
    let read = |run| fs::read(folder.join(run).join(&picture)).unwrap();
    assert_eq!(read("whole"), read("halves"));
    let lines = |run| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
        let line = |line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            let fields = line.as_object_mut().unwrap();
            fields.remove("images_per_second").unwrap();
            fields.remove("checkpoint");
            line
        };
        text.lines().map(line).collect()
    };
    assert_eq!(lines("whole").len(), steps);
    assert_eq!(lines("whole"), lines("halves"));
}

/// The tiny run with some of its lines changed.
fn digits(changes: &[(&str, &str)], steps: usize) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let mut config = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    for (from, to) in changes {
        assert!(config.contains(from), "{from}");
        config = config.replacen(from, to, 1);
    }
    resumes(folder, &config, steps);
}

/// Dropout, dropped classes, two parts a step, warmup, a cosine, clipping, a young average.
#[test]
fn the_run_with_everything_common() {
    digits(&[], 4);
}

#[test]
fn without_accumulation() {
    digits(&[("accumulate = 2\n", "")], 4);
}

#[test]
fn without_dropout_or_average() {
    digits(
        &[("\ndropout = 0.1", ""), ("decay = 0.995", "decay = 0.0")],
        4,
    );
}

/// Mirrored rows, more than an epoch of them: the second half begins in another permutation.
#[test]
fn with_flips_over_an_epochs_end() {
    let changes = [
        ("kind = \"digits\"", "kind = \"digits\"\nflip = true"),
        ("batch_size = 8\naccumulate = 2", "batch_size = 600"),
        ("channels = [8, 8]", "channels = [4, 4]"),
    ];
    digits(&changes, 4);
}

#[test]
fn in_the_middle_of_warmup() {
    digits(
        &[
            ("warmup = 50", "warmup = 3"),
            ("decay = 0.995", "decay = 0.1"),
        ],
        4,
    );
}

/// Times drawn by the losses before, some of them from before the death.
#[test]
fn with_importance_sampling_and_a_learned_variance() {
    let objective = "class_dropout = 0.1\nlearned_variance = true\nimportance_sampling = true\n\
                     stratified = true";
    let changes = [
        ("class_dropout = 0.1", objective),
        ("timesteps = 1000", "timesteps = 4"),
        ("sampler = \"ddim\"", "sampler = \"ddpm-learned\""),
        ("\nsteps = 4", "\nsteps = 12"),
        ("every = 2", "every = 6"),
        ("every = 2", "every = 6"),
    ];
    digits(&changes, 12);
}

#[test]
fn of_points() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config::recipe("swiss-roll").unwrap().to_owned();
    for (from, to) in [
        ("steps = 10000\n", "steps = 6\n"),
        ("batch_size = 256", "batch_size = 8\naccumulate = 2"),
        ("\nsteps = 200", "\nsteps = 10"),
        ("count = 2000", "count = 4"),
        ("every = 1000\n\n", "every = 3\n\n"),
        ("every = 1000\n", "every = 3\n"),
    ] {
        assert!(config.contains(from), "{from}");
        config = config.replacen(from, to, 1);
    }
    resumes(folder.path(), &config, 6);
}

/// Writes the tiny run with some of its lines changed.
pub(crate) fn changed(folder: &Path, file: &str, changes: &[(&str, &str)]) {
    let mut text = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    fs::write(folder.join(file), text).unwrap();
}

/// What the program says, which must succeed.
pub(crate) fn said(folder: &Path, arguments: &str) -> String {
    let output = ddpm(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ddpm {arguments}: {said}");
    said
}

#[test]
fn a_resumed_run_that_would_be_another_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run --steps 2");
    let record = || fs::read_to_string(folder.join("run/config.toml")).unwrap();
    let before = record();
    let resume = "train --config other.toml --out run --resume";
    for (from, to, difference) in [
        (
            "parametrization = \"v\"",
            "parametrization = \"epsilon\"",
            "objective.parametrization is \"v\" there and \"epsilon\" here",
        ),
        (
            "kind = \"cosine\"",
            "kind = \"linear\"",
            "process.kind is \"cosine\" there and \"linear\" here",
        ),
        (
            "timesteps = 1000",
            "timesteps = 50",
            "process.timesteps is 1000 there and 50 here",
        ),
        (
            "norm_num_groups = 4",
            "norm_num_groups = 4\nactivation = \"relu\"",
            "model.activation is \"silu\" there and \"relu\" here",
        ),
        (
            "norm_num_groups = 4",
            "norm_num_groups = 2",
            "model.norm_num_groups is 4 there and 2 here",
        ),
        (
            "channels = [8, 8]",
            "channels = [8, 12]",
            "model.block_out_channels is [8, 8] there and [8, 12] here",
        ),
        (
            "learning_rate = 1e-3",
            "learning_rate = 1e-5",
            "optimizer.learning_rate is 0.001 there and 0.00001 here",
        ),
        (
            "clip = 1.0\n",
            "",
            "optimizer.clip is 1.0 there and absent here",
        ),
        (
            "decay = 0.995",
            "decay = 0.5",
            "ema.decay is 0.995 there and 0.5 here",
        ),
        (
            "accumulate = 2",
            "accumulate = 4",
            "accumulate is 2 there and 4 here",
        ),
        (
            "kind = \"digits\"",
            "kind = \"digits\"\nflip = true",
            "data.flip is false there and true here",
        ),
    ] {
        changed(folder, "other.toml", &[(from, to)]);
        let words = [
            "error: resumed, it would be another run than \
             run/checkpoints/step-00000002/config.toml: ",
            difference,
            "--init-from run",
        ];
        refused(folder, resume, 1, &words);
        assert_eq!(record(), before);
    }
    // Every difference is named, and an option is no less one.
    let words = [": batch_size is 8 there and 16 here; seed is 0 there and 7 here; "];
    let options = "train --out run --resume --seed 7 --batch-size 16";
    refused(folder, options, 1, &words);
    // So it is before anything was saved.
    fs::remove_dir_all(folder.join("run/checkpoints")).unwrap();
    let words = ["than run/config.toml: seed is 0 there and 7 here; "];
    refused(folder, "train --out run --resume --seed 7", 1, &words);
}

#[test]
fn what_is_no_part_of_a_run_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out whole --steps 6");
    ok(folder, "train --config tiny.toml --out run --steps 2");
    let changes = [
        ("name = \"digits\"", "name = \"mine\""),
        ("\nsteps = 4", "\nsteps = 6"),
        ("kind = \"digits\"", "kind = \"digits\"\nworkers = 2"),
        ("count = 3", "count = 2"),
        (
            "[checkpoint]\nevery = 2",
            "[checkpoint]\nevery = 3\nkeep_last = 1",
        ),
        // As absent as they are explicit.
        (
            "weighting = \"simple\"",
            "weighting = \"simple\"\nlearned_variance = false",
        ),
    ];
    changed(folder, "other.toml", &changes);
    let said = said(folder, "train --config other.toml --out run --resume");
    let from = "goes on from step 2 of 6, run/checkpoints/step-00000002\n";
    assert!(said.starts_with(from), "{said}");
    assert_eq!(hash(folder, "run"), hash(folder, "whole"));
}

/// Without `--out` and `--config` it is the run that the same command began, with what it was told.
#[test]
fn a_run_goes_on_as_it_was_begun() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let words = ["error: runs/digits holds no run to resume"];
    refused(folder, "train --resume", 1, &words);
    let begun = "train --config tiny.toml --seed 5 --batch-size 16";
    ok(folder, &format!("{begun} --out whole"));
    ok(folder, &format!("{begun} --steps 2"));
    // The configuration alone says another seed.
    let named = "train --config tiny.toml --resume";
    refused(folder, named, 1, &["seed is 5 there and 0 here"]);
    let resumed = said(folder, "train --resume --steps 4");
    let from = "goes on from step 2 of 4, runs/digits/checkpoints/step-00000002\n";
    assert!(resumed.starts_with(from), "{resumed}");
    assert_eq!(hash(folder, "runs/digits"), hash(folder, "whole"));
    // Nothing is left, and that is said.
    let over = said(folder, "train --resume --steps 3");
    let from = "goes on from step 4 of 3, runs/digits/checkpoints/step-00000004; no step is left";
    assert!(over.starts_with(from), "{over}");
}
