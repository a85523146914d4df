//! `[optimizer]` and `[ema]`: Muon, several averages, and keys that are refused.

use std::fs;
use std::path::Path;

use crate::resume::resumes;
use crate::run::{ok, refused, tiny};

/// The tiny run with some of its lines changed, as `NAME.toml`.
fn write(folder: &Path, name: &str, changes: &[(&str, &str)]) -> String {
    tiny(folder);
    let mut config = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    for (from, to) in changes {
        assert!(config.contains(from), "{from}");
        config = config.replacen(from, to, 1);
    }
    fs::write(folder.join(name), &config).unwrap();
    config
}

const MUON: (&str, &str) = (
    "learning_rate = 1e-3",
    "kind = \"muon\"\nlearning_rate = 1e-3",
);
const TWO: (&str, &str) = ("decay = 0.995", "decay = [0.5, 0.9]");

#[test]
fn a_run_of_muon_with_two_averages_is_resumed_and_sampled() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let linear = ("decay = \"cosine\"", "decay = \"linear\"");
    resumes(folder, &write(folder, "run.toml", &[MUON, TWO, linear]), 4);
    let second = "checkpoints/step-00000004/ema-0.9.safetensors";
    let read = |run| fs::read(folder.join(run).join(second)).unwrap();
    assert_eq!(read("whole"), read("halves"));
    let sample = |name: &str, options: &str| {
        let command = format!("sample --from whole --num 2 --steps 2 --raw --out {name}{options}");
        ok(folder, &command);
        fs::read(folder.join(name).join("samples.safetensors")).unwrap()
    };
    let first = sample("first", "");
    assert_eq!(first, sample("named", " --ema 0.5"));
    assert_ne!(first, sample("second", " --ema 0.9"));
    let words = ["--ema 0.99: the run keeps the averages of 0.5, 0.9"];
    refused(folder, "sample --from whole --ema 0.99 --out no", 1, &words);
    write(folder, "other.toml", &[TWO, linear]);
    let words = ["optimizer.kind is \"muon\" there and \"adamw\" here"];
    let resume = "train --config other.toml --out whole --resume";
    refused(folder, resume, 1, &words);
}

#[test]
fn keys_without_effect_and_old_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rate = "learning_rate = 1e-3";
    for (from, to, words) in [
        (
            rate,
            "momentum = 0.9\nlearning_rate = 1e-3",
            &["optimizer.momentum", "kind = \"adamw\"", "leave it out"][..],
        ),
        (
            rate,
            "kind = \"muon\"\nmomentum = 1.0\nlearning_rate = 1e-3",
            &["optimizer.momentum", "1.0 must be in [0, 1)"],
        ),
        (
            rate,
            "kind = \"sgd\"\nlearning_rate = 1e-3",
            &["bad.toml", "sgd", "`adamw`", "`muon`"],
        ),
        (
            "decay = \"cosine\"",
            "cosine_decay = true",
            &["optimizer.cosine_decay", "write decay = \"cosine\""],
        ),
        (
            "decay = \"cosine\"",
            "decay = \"step\"",
            &["bad.toml", "step", "`inverse-sqrt`"],
        ),
        ("decay = 0.995", "decay = []", &["ema.decay", "[] must be"]),
        (
            "decay = 0.995",
            "decay = [0.9, 0.9]",
            &["ema.decay", "no two alike"],
        ),
        (
            "decay = 0.995",
            "decay = \"long\"",
            &["bad.toml", "a number or a list of numbers"],
        ),
    ] {
        write(folder, "bad.toml", &[(from, to)]);
        refused(folder, "train --config bad.toml --out bad", 1, words);
    }
    assert!(!folder.join("bad").exists());
}
