//! Checkpoints that are whole or absent: what is damaged is named, never read.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use ddpm_train::checkpoint::{FORMAT, Manifest, PARTS, Pruner, Retention};
use sha2::{Digest, Sha256};

use crate::run::{ddpm, ok, refused, tiny};

/// Rewrites a checkpoint's manifest for the files as they are now: what a person does who changes a
/// checkpoint on purpose.
pub(crate) fn seal(checkpoint: &Path) {
    let entry = |name: &str| {
        let bytes = fs::read(checkpoint.join(name)).unwrap();
        let hash = format!("{:x}", Sha256::digest(&bytes));
        serde_json::json!({ "size": bytes.len(), "sha256": hash })
    };
    let files: BTreeMap<_, _> = PARTS.iter().map(|name| (*name, entry(name))).collect();
    let manifest = serde_json::json!({ "format": FORMAT, "files": files });
    fs::write(checkpoint.join("manifest.json"), manifest.to_string()).unwrap();
}

/// The program's output for `ddpm check RUN`, and whether it called the run whole.
fn check(folder: &Path, arguments: &str) -> (bool, String) {
    let output = ddpm(folder, &format!("check {arguments}"));
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.success(), text)
}

/// The hash of a run's state; it must have one.
pub(crate) fn hash(folder: &Path, run: &str) -> String {
    let (whole, hash) = check(folder, &format!("{run} --hash"));
    assert!(whole && hash.len() == 65, "{run}: {hash:?}");
    hash
}

/// The names in a run's folder of checkpoints, hidden ones too.
fn names(folder: &Path, run: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.join(run).join("checkpoints")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// A whole run `run` of four steps with checkpoints after the second and the fourth.
fn trained() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path());
    ok(folder.path(), "train --config tiny.toml --out run");
    let newest = folder.path().join("run/checkpoints/step-00000004");
    (folder, newest)
}

/// What can happen to a file.
fn damages(bytes: &[u8]) -> [(&'static str, Option<Vec<u8>>); 3] {
    let mut flipped = bytes.to_vec();
    flipped[bytes.len() / 2] ^= 1;
    let half = bytes[..bytes.len() / 2].to_vec();
    [
        ("flipped", Some(flipped)),
        ("truncated", Some(half)),
        ("missing", None),
    ]
}

#[test]
fn each_damage_to_each_part_is_named_and_the_checkpoint_before_it_is_taken() {
    let (folder, newest) = trained();
    let folder = folder.path();
    let whole = hash(folder, "run");
    for part in PARTS.into_iter().chain(["manifest.json"]) {
        let path = newest.join(part);
        let bytes = fs::read(&path).unwrap();
        for (damage, damaged) in damages(&bytes) {
            match damaged {
                Some(damaged) => fs::write(&path, damaged).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let (all_whole, text) = check(folder, "run");
            let line = text.lines().nth(1).unwrap();
            assert!(!all_whole, "{part} {damage}: {text}");
            assert!(
                line.starts_with("step 4: damaged: "),
                "{part} {damage}: {line}"
            );
            assert!(text.contains("step 2 can be recovered: ddpm train --out run --resume"));
        }
        fs::write(&path, bytes).unwrap();
    }
    // A run goes on in spite of the damage, and is the run it was.
    fs::remove_file(newest.join("optimizer.safetensors")).unwrap();
    let output = ddpm(folder, "train --out run --resume");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let skipped = errors.lines().next().unwrap();
    assert!(
        skipped.starts_with("skipped: ") && skipped.contains("optimizer.safetensors"),
        "{errors}"
    );
    assert_eq!(hash(folder, "run"), whole);
}

#[test]
fn without_a_whole_checkpoint_nothing_is_read_and_nothing_begun_again() {
    let (folder, newest) = trained();
    let folder = folder.path();
    for step in ["step-00000002", "step-00000004"] {
        fs::remove_file(newest.with_file_name(step).join("manifest.json")).unwrap();
    }
    for command in ["train --out run --resume", "sample --from run"] {
        let words = [
            "no whole checkpoint",
            "older than manifests",
            "step-00000002",
        ];
        refused(folder, command, 1, &words);
    }
    let one = "sample --from run/checkpoints/step-00000004";
    refused(folder, one, 1, &["manifest.json", "missing"]);
    refused(folder, "check run --hash", 1, &["nothing can be recovered"]);
    // A run that has none at all has lost nothing.
    fs::remove_dir_all(newest.parent().unwrap()).unwrap();
    let output = ddpm(folder, "train --out run --resume");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("from the beginning"));
    assert_eq!(names(folder, "run"), ["step-00000002", "step-00000004"]);
}

#[test]
fn a_manifest_of_another_kind_is_refused_with_the_reason() {
    let (folder, newest) = trained();
    let path = newest.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    Manifest::verify(&newest).unwrap();
    for (from, to, word) in [
        ("\"format\": 1", "\"format\": 2", "format 2"),
        ("\"format\": 1", "\"form\": 1", "format"),
        ("ema.safetensors", "../ema.safetensors", "../ema"),
        ("ema.safetensors", "/etc/passwd", "/etc/passwd"),
        ("\"size\": ", "\"size\": -", "line"),
        ("\"size\": ", "\"size\": 9999999999", "9999999999"),
    ] {
        assert!(text.contains(from));
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = Manifest::verify(&newest).unwrap_err().to_string();
        assert!(error.contains(word), "{to}: {error}");
    }
    let endless = format!("\"size\": {}", u64::MAX);
    let lines = text.lines().map(|line| match line.split_once("\"size\"") {
        Some((indent, _)) => format!("{indent}{endless},\n"),
        None => format!("{line}\n"),
    });
    let manifest = Manifest::parse(lines.collect::<String>().as_bytes()).unwrap();
    assert_eq!(manifest.bytes(), u64::MAX);
    fs::write(&path, "[".repeat(1 << 20)).unwrap();
    assert!(Manifest::verify(&newest).is_err());
    // A link may lead anywhere.
    fs::write(&path, text).unwrap();
    #[cfg(unix)]
    {
        let (weights, elsewhere) = (newest.join("ema.safetensors"), folder.path().join("ema"));
        fs::rename(&weights, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &weights).unwrap();
        let error = Manifest::verify(&newest).unwrap_err().to_string();
        assert!(error.contains("not a plain file"), "{error}");
    }
}

/// The hash of the state is what `sha256sum` makes of the parts, whatever the configuration says.
#[test]
fn equal_states_have_equal_hashes() {
    let (folder, newest) = trained();
    let folder = folder.path();
    let state = PARTS.into_iter().filter(|part| *part != "config.toml");
    let line = |part: &str| {
        let hash = Sha256::digest(fs::read(newest.join(part)).unwrap());
        format!("{hash:x}  {part}\n")
    };
    let lines: String = state.map(line).collect();
    let expected = format!("{:x}\n", Sha256::digest(lines));
    assert_eq!(hash(folder, "run"), expected);
    let config = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    fs::write(
        folder.join("other.toml"),
        config.replace("count = 3", "count = 2"),
    )
    .unwrap();
    ok(folder, "train --config other.toml --out other");
    assert_eq!(hash(folder, "other"), expected);
    ok(folder, "train --config other.toml --out seed --seed 1");
    assert_ne!(hash(folder, "seed"), expected);
}

#[test]
fn no_more_are_kept_than_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let tiny = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let all = [1, 2, 3, 4, 5, 6, 7];
    for (rules, kept) in [
        ("", &all[..]),
        ("keep_last = 1", &[7]),
        ("keep_last = 3", &[5, 6, 7]),
        ("keep_every = 3", &[3, 6, 7]),
        ("keep_last = 2\nkeep_every = 4", &[4, 6, 7]),
        ("keep_last = 100", &all),
    ] {
        let table = format!("[checkpoint]\nevery = 1\n{rules}");
        let config = tiny.replace("[checkpoint]\nevery = 2", &table);
        assert_ne!(config, tiny);
        fs::write(folder.join("keep.toml"), config).unwrap();
        let _ = fs::remove_dir_all(folder.join("run"));
        ok(folder, "train --config keep.toml --out run --steps 7");
        let expected: Vec<_> = kept.iter().map(|step| format!("step-{step:08}")).collect();
        assert_eq!(names(folder, "run"), expected, "{rules}");
    }
}

/// A process that dies between its last checkpoint and the removal of those before leaves nothing
/// to be done but that.
#[test]
fn what_was_left_of_a_finished_run_is_removed() {
    let (folder, newest) = trained();
    let config = folder.path().join("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let rule = "[checkpoint]\nkeep_last = 1";
    fs::write(&config, text.replace("[checkpoint]", rule)).unwrap();
    ok(folder.path(), "train --out run --resume");
    assert_eq!(names(folder.path(), "run"), ["step-00000004"]);
    Manifest::verify(&newest).unwrap();
}

/// Which are the best, the record says; the newest is kept beside them.
#[test]
fn those_of_the_lowest_loss_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let tiny = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let rules = "[checkpoint]\nevery = 2\nkeep_best = 2";
    let config = tiny.replace("[checkpoint]\nevery = 2", rules);
    fs::write(folder.join("keep.toml"), config).unwrap();
    ok(folder, "train --config keep.toml --out run --steps 10");
    let metrics = fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let losses: Vec<f64> = metrics
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["loss"].as_f64().unwrap()
        })
        .collect();
    let means: Vec<_> = losses.chunks(2).map(|pair| pair[0] + pair[1]).collect();
    // A checkpoint goes when a better one comes: the last two left are the best of all.
    let mut order: Vec<usize> = (0..means.len()).collect();
    order.sort_by(|&a, &b| means[a].total_cmp(&means[b]));
    let mut kept = vec![2 * (order[0] + 1), 2 * (order[1] + 1), 10];
    kept.sort_unstable();
    kept.dedup();
    let expected: Vec<_> = kept.iter().map(|step| format!("step-{step:08}")).collect();
    assert_eq!(names(folder, "run"), expected, "{losses:?}");
}

/// The newest checkpoints are damaged and the rule keeps one: the one written next stays, although
/// damaged ones lie beyond it.
#[test]
fn the_newest_whole_one_is_kept_before_damaged_ones() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let every = "--steps 6 --checkpoint-every 1";
    ok(
        folder,
        &format!("train --config tiny.toml --out run {every}"),
    );
    for step in [4, 5, 6] {
        let path = folder.join(format!("run/checkpoints/step-{step:08}/state.json"));
        fs::write(path, "{}").unwrap();
    }
    let config = folder.join("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("[checkpoint]", "[checkpoint]\nkeep_last = 1"),
    )
    .unwrap();
    ok(folder, "train --out run --resume --steps 4");
    let expected = ["step-00000004", "step-00000005", "step-00000006"];
    assert_eq!(names(folder, "run"), expected);
    let (_, text) = check(folder, "run");
    assert!(text.starts_with("step 4: whole"), "{text}");
}

/// Of six checkpoints the one before the last is damaged and the rule keeps two: the damaged one does
/// not count.
#[test]
fn damaged_ones_do_not_count_as_kept() {
    for rule in ["keep_last", "keep_best"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        tiny(folder);
        let every = "--steps 6 --checkpoint-every 1";
        ok(
            folder,
            &format!("train --config tiny.toml --out run {every}"),
        );
        let mut record = String::new();
        for step in 1..=6 {
            // The later, the better.
            let line = format!(
                "{{\"step\":{step},\"loss\":{},\"lr\":0.1,\"grad_norm\":1.0,\
                 \"images_per_second\":9.0}}\n",
                10 - step
            );
            record += &line;
        }
        fs::write(folder.join("run/metrics.jsonl"), record).unwrap();
        let damaged = folder.join("run/checkpoints/step-00000005/state.json");
        fs::write(damaged, "{}").unwrap();
        let config = folder.join("run/config.toml");
        let text = fs::read_to_string(&config).unwrap();
        let rule = format!("[checkpoint]\n{rule} = 2");
        fs::write(&config, text.replace("[checkpoint]", &rule)).unwrap();
        ok(folder, "train --out run --resume");
        let expected = ["step-00000004", "step-00000005", "step-00000006"];
        assert_eq!(names(folder, "run"), expected, "{rule}");
    }
}

/// The record of a running job may end in the middle of a line, and of some steps it may know nothing:
/// what is known to be worse goes, and nothing else.
#[test]
fn the_best_are_known_from_a_record_that_is_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let every = "--steps 5 --checkpoint-every 1";
    ok(
        folder,
        &format!("train --config tiny.toml --out run {every}"),
    );
    let line = |step: u64, loss: f64| {
        format!(
            "{{\"step\":{step},\"loss\":{loss},\"lr\":0.1,\"grad_norm\":1.0,\
             \"images_per_second\":9.0}}\n"
        )
    };
    // Nothing is known of step 3, whose line is damaged.
    let record = [
        line(1, 0.5),
        line(2, 0.7),
        "{\"step\":3,\"lo\n".to_owned(),
        line(4, 0.6),
        line(5, 0.9),
        line(6, 0.1)[..20].to_owned(),
    ];
    let run = folder.join("run");
    fs::write(run.join("metrics.jsonl"), record.concat()).unwrap();
    let keep = Retention {
        best: NonZeroUsize::new(1),
        window: 1,
        ..Retention::default()
    };
    Pruner::new(&run, keep).prune(5).unwrap();
    let expected = ["step-00000001", "step-00000003", "step-00000005"];
    assert_eq!(names(folder, "run"), expected);
}

/// A line that is none costs no other, and is said.
#[test]
fn a_bad_line_of_the_record_costs_no_other() {
    let (folder, newest) = trained();
    let folder = folder.path();
    fs::remove_dir_all(newest).unwrap();
    let path = folder.join("run/metrics.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<_> = whole.lines().collect();
    lines[0] = &lines[0][..20];
    fs::write(&path, lines.join("\n")).unwrap();
    let output = ddpm(folder, "train --out run --resume");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let said = "run/metrics.jsonl: lines that are no step's, left out: 1\n";
    assert!(errors.contains(said), "{errors}");
    let text = fs::read_to_string(&path).unwrap();
    let steps: Vec<_> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["step"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(steps, [2, 3, 4]);
    assert_eq!(text.lines().next(), whole.lines().nth(1));
}

/// What a process leaves that dies while it writes is named, is no checkpoint, and goes.
#[test]
fn what_was_not_finished_is_no_checkpoint() {
    let (folder, newest) = trained();
    let folder = folder.path();
    let whole = hash(folder, "run");
    fs::rename(&newest, newest.with_file_name(".step-00000004.tmp")).unwrap();
    let (all_whole, text) = check(folder, "run");
    assert!(
        all_whole && text.contains(".step-00000004.tmp: not finished"),
        "{text}"
    );
    assert!(text.contains("step 2 can be recovered"), "{text}");
    ok(folder, "train --out run --resume");
    assert_eq!(names(folder, "run"), ["step-00000002", "step-00000004"]);
    assert_eq!(hash(folder, "run"), whole);
}
