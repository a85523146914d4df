//! A run whose loss leaves the numbers: it stops, says where, and what it had is kept.

use std::fs;
use std::path::Path;

use ddpm_cli::config;
use ddpm_model::weights::read_tensor;

use crate::run::{ddpm, ok, refused};

/// The last checkpoint before the end.
const SAVED: u64 = 25;

/// Points, and a deep narrow network whose learning rate climbs towards 1: each of 40 blocks
/// multiplies, so that the output overflows some steps after the checkpoint of step 25.
pub(crate) fn reckless(folder: &Path) {
    let mut text = config::recipe("swiss-roll").unwrap().to_owned();
    for (from, to) in [
        ("steps = 10000\n", "steps = 60\n"),
        ("batch_size = 256", "batch_size = 8"),
        ("timesteps = 200", "timesteps = 10"),
        ("beta_end = 0.06", "beta_end = 0.5"),
        ("hidden = 128", "hidden = 16"),
        ("layers = 3", "layers = 40"),
        ("learning_rate = 1e-3", "learning_rate = 1.0"),
        ("warmup = 100", "warmup = 40"),
        ("clip = 1.0\n", ""),
        ("\nsteps = 200", "\nsteps = 10"),
        ("count = 2000", "count = 4"),
        ("every = 1000\n\n", "every = 25\n\n"),
        ("every = 1000\n", "every = 25\n"),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    fs::write(folder.join("reckless.toml"), text).unwrap();
}

/// Runs what must diverge; the step its error names.
fn diverges(folder: &Path, arguments: &str) -> u64 {
    let output = ddpm(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let last = errors.lines().last().unwrap();
    assert!(last.starts_with("error: "), "{last}");
    assert!(last.contains("NaN") || last.contains("inf"), "{last}");
    let (_, step) = last.split_once("at step ").unwrap();
    let (step, _) = step.split_once(';').unwrap();
    step.parse().unwrap()
}

/// The losses of a run, one a step.
fn losses(folder: &Path, run: &str) -> Vec<f64> {
    let metrics = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    let line = |(step, line)| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["step"], step);
        line["loss"].as_f64().unwrap()
    };
    (1..).zip(metrics.lines()).map(line).collect()
}

#[test]
fn a_diverged_run_stops_and_its_checkpoint_lives() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    reckless(folder);
    let step = diverges(folder, "train --config reckless.toml --out run");
    assert!(step > SAVED, "step {step} is before the checkpoint");
    let checkpoints = || -> Vec<_> {
        let entries = fs::read_dir(folder.join("run/checkpoints")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(checkpoints(), ["step-00000025"]);
    // Every step before it is on record, with a number for a loss.
    let before = losses(folder, "run");
    assert_eq!(before.len() as u64, step - 1);

    // The same run comes to the same end.
    assert_eq!(diverges(folder, "train --out run --resume"), step);
    assert_eq!(losses(folder, "run"), before);

    ok(folder, "sample --from run --num 4 --raw --out samples");
    let samples = folder.join("samples/samples.safetensors");
    let (_, values) = read_tensor(&samples, "samples").unwrap();
    assert_eq!(values.len(), 8);
    assert!(values.iter().all(|x| x.is_finite()), "{values:?}");

    // A gentler rate is another run, which begins with the weights of the last checkpoint.
    let text = fs::read_to_string(folder.join("reckless.toml")).unwrap();
    let gentle = text.replace("learning_rate = 1.0", "learning_rate = 1e-4");
    assert_ne!(text, gentle);
    fs::write(folder.join("gentle.toml"), gentle).unwrap();
    let words = [
        "optimizer.learning_rate is 1.0 there and 0.0001 here",
        "--init-from run",
    ];
    let arguments = "train --config gentle.toml --out run --resume";
    refused(folder, arguments, 1, &words);
    let arguments = "train --config gentle.toml --out gentle --init-from run";
    ok(folder, arguments);
    assert_eq!(losses(folder, "gentle").len(), 60);
    assert_eq!(losses(folder, "run"), before);
    assert_eq!(checkpoints(), ["step-00000025"]);
}
