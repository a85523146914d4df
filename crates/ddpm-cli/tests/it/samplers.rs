//! `ddpm sample --sampler` and `--grid`, and `ddpm samplers`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::run::{ddpm, ok, refused};
use crate::samples::trained;

fn record(out: &Path) -> BTreeMap<String, String> {
    let text = fs::read(out.join("samples.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The name of another library is answered with ours, and the evaluations are said and kept: two
/// for each of Heun's steps but the last.
#[test]
fn a_sampler_has_many_names_and_one_record() {
    let folder = trained();
    let folder = folder.path();
    let draw = "sample --from run --num 2 --steps 4 --grid use_karras_sigmas --rho 5 --churn 0.5";
    let output = ddpm(folder, &format!("{draw} --sampler sample_heun --out s"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let line = "heun, 4 steps, 7 network evaluations a sample";
    assert!(said.contains(line), "{said}");
    let record = record(&folder.join("s"));
    for (key, word) in [
        ("sampler", "heun"),
        ("numbers", "churn 0.5"),
        ("steps", "4"),
        ("evaluations", "7"),
    ] {
        assert_eq!(record[key], word, "{key}");
    }
}

#[test]
fn what_means_nothing_to_a_sampler_or_a_grid_is_refused() {
    let folder = trained();
    let folder = folder.path();
    for (options, code, words) in [
        (
            "--sampler plms",
            2,
            &["--sampler", "\"plms\"", "dpmpp-2m"][..],
        ),
        ("--sampler ancestral", 2, &["called \"ddpm\" now"]),
        ("--grid karass", 2, &["--grid", "karass", "trailing"]),
        (
            "--sampler heun --eta 0.5",
            1,
            &["heun has no eta; it has churn"],
        ),
        ("--sampler lms --order 5", 1, &["order = 5 of lms", "1..=4"]),
        (
            "--grid trailing --rho 3",
            1,
            &["--grid", "trailing has no ρ"],
        ),
        (
            "--sampler dpm-adaptive --steps 5",
            1,
            &["--steps", "its own steps"],
        ),
        ("--sampler dpm-adaptive --film", 1, &["--film", "not known"]),
        (
            "--sampler ddim --tolerance 0.1",
            1,
            &["ddim has no tolerance"],
        ),
    ] {
        let draw = format!("sample --from run --num 2 --out s {options}");
        refused(folder, &draw, code, words);
        // Nothing is begun.
        assert!(!folder.join("s").exists(), "{options}");
    }
}

/// The adaptive sampler says what it took, and a smaller error costs more evaluations.
#[test]
fn an_error_chooses_the_steps() {
    let folder = trained();
    let folder = folder.path();
    let evaluations = |tolerance: &str| -> u32 {
        let draw = format!(
            "sample --from run --num 2 --sampler dpm-adaptive --tolerance {tolerance} --out s{tolerance}"
        );
        let output = ddpm(folder, &draw);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let end = said.find(" network evaluations a sample").unwrap();
        let number = said[..end].rsplit(|c: char| !c.is_ascii_digit()).next();
        number.unwrap().parse().unwrap()
    };
    let (coarse, fine) = (evaluations("0.5"), evaluations("0.02"));
    assert!(coarse < fine, "{coarse} {fine}");
    assert_eq!(record(&folder.join("s0.5"))["evaluations"], "by error");
}

#[test]
fn the_table_of_samplers_is_an_array() {
    let folder = tempfile::tempdir().unwrap();
    let output = ddpm(folder.path(), "samplers --json");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(rows.len() > 30);
    for row in &rows {
        for key in [
            "name",
            "order",
            "evaluations",
            "stochastic",
            "aliases",
            "paper",
        ] {
            assert!(!row[key].is_null(), "{row}");
        }
    }
    let text = ddpm(folder.path(), "samplers").stdout;
    let text = String::from_utf8(text).unwrap();
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(80), "{longest:?}");
}

/// A flow and EDM, trained for some steps, resumed and sampled as their recipes say.
#[test]
fn recipes_in_continuous_time_train_and_sample() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (recipe, line) in [
        (
            "swiss-roll-flow",
            "heun-flow, 20 steps, 39 network evaluations",
        ),
        ("digits-edm", "heun, 18 steps, 35 network evaluations"),
    ] {
        let train = format!("train --recipe {recipe} --out {recipe}");
        ok(folder, &format!("{train} --steps 3"));
        ok(folder, &format!("train --out {recipe} --resume --steps 5"));
        let draw = format!("sample --from {recipe} --num 2 --batch-size 2 --out {recipe}-s");
        let output = ddpm(folder, &draw);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains(line), "{said}");
    }
}
