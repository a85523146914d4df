//! Exact resume: N steps are k steps, death, and N − k steps, byte for byte, whatever is trained.

use std::fs;
use std::path::Path;

use ddpm_train::config;

use crate::checkpoints::hash;
use crate::run::{ok, tiny};

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
        ("sampler = \"ddim\"", "sampler = \"ancestral-learned\""),
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
