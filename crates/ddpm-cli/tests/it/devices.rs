//! One run on several devices of this process; a CPU is one device, which may be given repeatedly.

use std::fs;
use std::path::Path;

use ddpm_model::weights::read_tensor;

use crate::checkpoints::hash;
use crate::diverged::reckless;
use crate::faults::{endless, said, start, until_saved};
use crate::run::{ddpm, ok, refused, tiny};

/// The tiny run with times drawn by losses and learned variances, so that the ranks must tell each
/// other more than gradients; eight rows in two parts are one row for each part of four ranks.
pub(crate) fn everything(folder: &Path) {
    tiny(folder);
    let path = folder.join("tiny.toml");
    let text = fs::read_to_string(&path).unwrap();
    let objective = "class_dropout = 0.1\nlearned_variance = true\nimportance_sampling = true\n\
                     stratified = true";
    let text = text
        .replace("class_dropout = 0.1", objective)
        .replace("timesteps = 1000", "timesteps = 4")
        .replace("sampler = \"ddim\"", "sampler = \"ddpm-learned\"")
        .replace("\nsteps = 4", "\nsteps = 16")
        .replace("warmup = 50", "warmup = 4")
        .replace("every = 2", "every = 8");
    fs::write(path, text).unwrap();
}

/// The losses and gradients' norms of a run.
pub(crate) fn metrics(folder: &Path, run: &str) -> Vec<[f64; 2]> {
    let text = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    let numbers = |line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        ["loss", "grad_norm"].map(|key| line[key].as_f64().unwrap())
    };
    text.lines().map(numbers).collect()
}

/// The weights of a layer at the end of a run: all of the bottom's first convolution.
fn weights(folder: &Path, run: &str) -> Vec<f32> {
    let path = format!("{run}/checkpoints/step-00000016/model.safetensors");
    let name = "mid_block.resnets.0.conv1.weight";
    read_tensor(&folder.join(path), name).unwrap().1
}

/// Two runs that differ by the order of their sums alone.
///
/// A sum of f32 is right to about 1e-7 of its terms, which AdamW turns into as much of a step of
/// lr = 1e-3 wherever a gradient is not itself nothing but rounding; sixteen steps add up.
pub(crate) fn same(folder: &Path, run: &str, other: &str) {
    let (a, b) = (metrics(folder, run), metrics(folder, other));
    assert_eq!(a.len(), 16);
    for (step, (a, b)) in a.iter().zip(&b).enumerate() {
        for (a, b) in a.iter().zip(b) {
            let relative = (a - b).abs() / a.abs();
            assert!(
                relative <= 1e-4,
                "{other}, step {}: {b} is not {a}",
                step + 1
            );
        }
    }
    assert_eq!(a.len(), b.len());
    let (a, b) = (weights(folder, run), weights(folder, other));
    let largest = a
        .iter()
        .zip(&b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(largest <= 1e-4, "{other}: weights differ by {largest}");
}

#[test]
fn the_run_on_n_devices_is_the_run_on_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    everything(folder);
    ok(folder, "train --config tiny.toml --out alone");
    ok(
        folder,
        "train --config tiny.toml --out devices-1 --devices 0",
    );
    assert_eq!(hash(folder, "devices-1"), hash(folder, "alone"));
    for (ranks, devices) in [(2, "0,0"), (4, "0,0,0,0")] {
        let run = format!("devices-{ranks}");
        let arguments = format!("train --config tiny.toml --out {run} --devices {devices}");
        let output = ddpm(folder, &arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        assert!(errors.contains(&format!(" by {ranks} ranks")), "{errors}");
        // One writes, and says so once.
        assert_eq!(errors.matches("done: ").count(), 1, "{errors}");
        same(folder, "alone", &run);
    }
    // Sums are made in the order of ranks, so that a resumed run has even the same bytes.
    let whole = hash(folder, "devices-2");
    fs::remove_dir_all(folder.join("devices-2/checkpoints/step-00000016")).unwrap();
    ok(folder, "train --out devices-2 --resume --devices 0,0");
    assert_eq!(hash(folder, "devices-2"), whole);
    // It goes on with another number.
    ok(
        folder,
        "train --out devices-2 --resume --devices 0,0,0,0 --steps 17",
    );
}

#[test]
fn devices_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let train = "train --config tiny.toml --out run --devices";
    let none = ["no flex device 1 on this machine, which has 1"];
    refused(folder, &format!("{train} 0,1"), 2, &none);
    let uneven = ["batch_size = 8 in accumulate = 2 parts cannot be divided evenly among 3 ranks"];
    refused(folder, &format!("{train} 0,0,0"), 1, &uneven);
    assert!(!folder.join("run").exists());
}

/// The first of two ranks cannot have the folder, of which the second knows nothing: both end, and why
/// is said once.
#[test]
fn the_error_of_one_rank_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run --steps 2");
    let output = ddpm(folder, "train --config tiny.toml --out run --devices 0,0");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let error = "error: run holds a run already: go on with --resume, or choose another --out\n";
    assert_eq!(errors, error);
    ok(folder, "check run");
}

/// All rows of all ranks are in the report of a run that leaves the numbers.
#[test]
fn the_report_of_a_divergence_has_every_devices_rows() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    reckless(folder);
    let arguments = "train --config reckless.toml --out run --devices 0,0";
    refused(folder, arguments, 1, &["error: the loss is "]);
    reported(folder);
}

/// That the report of the run has the eight rows of the step it is about.
pub(crate) fn reported(folder: &Path) {
    let report = fs::read(folder.join("run/diverged.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let step = report["step"].as_u64().unwrap();
    let samples: Vec<_> = rows
        .iter()
        .map(|row| row["sample"].as_u64().unwrap())
        .collect();
    let expected: Vec<_> = (8 * (step - 1)..8 * step).collect();
    assert_eq!(samples, expected);
}

#[cfg(unix)]
#[test]
fn a_signal_stops_all_devices_after_the_same_step() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    endless(folder);
    let devices = "--devices 0,0,0,0";
    let mut child = start(
        folder,
        &format!("train --config endless.toml --out run {devices}"),
    );
    until_saved(folder);
    crate::faults::send(&child, &["TERM"]);
    assert_eq!(child.wait().unwrap().code(), Some(143), "{}", said(folder));
    let said = said(folder);
    let last = said.lines().last().unwrap();
    assert!(last.ends_with(devices), "{last}");
    let (_, back) = last.split_once("; go on with: ddpm ").unwrap();
    ok(folder, &format!("{back} --steps 1"));
}
