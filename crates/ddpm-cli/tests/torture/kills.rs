//! SIGKILL at random instants: the work that is resumed to its end must equal one never killed.

use super::{cases::Case, program::Program, random::Random};
use anyhow::Context as _;
use std::{collections::BTreeMap, fs, path::Path, thread::sleep, time::Duration, time::Instant};

/// Kills of one work. A process lives a quarter of the whole work's time on average, so most works
/// are killed this often before they end.
const PER_RUN: usize = 6;

/// The results of killing one case.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Kills {
    pub(super) recipe: &'static str,
    pub(super) work: &'static str,
    /// Processes killed before their end.
    pub(super) count: usize,
    /// How many of them left a file or folder that was being written.
    pub(super) unfinished: usize,
    /// How many of them left nothing complete.
    pub(super) before: usize,
    /// The most training steps that a kill cost.
    pub(super) lost: u64,
    /// Works that were resumed to their end.
    pub(super) runs: usize,
    /// The differences from the work that was never killed.
    pub(super) differences: Vec<String>,
}

/// What is compared between two works, by name.
type Facts = BTreeMap<String, Vec<u8>>;

/// Kills a case's work `count` times in total, in a folder of its own.
pub(super) fn kill(
    program: &Program,
    folder: &Path,
    case: &Case,
    count: usize,
    random: &mut Random,
) -> anyhow::Result<Kills> {
    for (name, text) in &case.files {
        fs::write(folder.join(name), text)?;
    }
    for command in case.before {
        program.succeed(folder, command)?;
    }
    let begun = Instant::now();
    program.succeed(folder, &format!("{} --out whole", case.first))?;
    let longest = begun.elapsed() / 2;
    let whole = facts(program, folder, "whole")?;
    let mut found = Kills {
        recipe: case.recipe,
        work: case.work,
        ..Kills::default()
    };
    while found.count < count {
        let run = folder.join("run");
        if run.exists() {
            fs::remove_dir_all(&run)?;
        }
        let end = count.min(found.count + PER_RUN);
        while found.count < end && !kill_once(program, folder, case, longest, random, &mut found)? {
        }
        let mut job = program.start(folder, &next(case, &run))?;
        job.wait()?.ends_with(0)?;
        found.runs += 1;
        let differences = differences(&whole, &facts(program, folder, "run")?);
        if !differences.is_empty() {
            let (run, differences) = (found.runs, differences.join(", "));
            let text = format!("run {run}: {differences}");
            found.differences.push(text);
            // Kept for inspection.
            fs::rename(folder.join("run"), folder.join(format!("run-{run}")))?;
        }
    }
    Ok(found)
}

/// The arguments of a work's next process.
fn next(case: &Case, run: &Path) -> String {
    let command = if run.join(case.begun).exists() {
        case.later
    } else {
        case.first
    };
    format!("{command} --out run")
}

/// Starts one process and kills it after a random time. Returns true if it ended before, which does
/// not count as a kill.
fn kill_once(
    program: &Program,
    folder: &Path,
    case: &Case,
    longest: Duration,
    random: &mut Random,
    found: &mut Kills,
) -> anyhow::Result<bool> {
    let run = folder.join("run");
    let mut job = program.start(folder, &next(case, &run))?;
    sleep(longest.mul_f64(random.unit()));
    if !job.kill()? {
        job.wait()?.ends_with(0)?;
        return Ok(true);
    }
    found.count += 1;
    let checkpoints = names(&run.join("checkpoints"))?;
    let images = names(&run.join("images"))?;
    let newest = checkpoints.iter().filter_map(|name| step(name)).max();
    let others = names(&run)?;
    // The values of samples are kept in a file that gets its final name when all of them are there.
    let values = |name: &String| name.starts_with(".samples.safetensors");
    let image = |name: &String| !name.starts_with('.');
    let whole = newest.is_some() || images.iter().any(image) || others.iter().any(values);
    let mut all = [checkpoints, images, others].concat().into_iter();
    found.unfinished +=
        usize::from(all.any(|name| name.strip_suffix(".tmp").is_some() && !values(&name)));
    found.before += usize::from(!whole);
    // The record is written before each checkpoint, and tells how far the run had come.
    let record = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let done = record.matches('\n').count() as u64;
    found.lost = found.lost.max(done.saturating_sub(newest.unwrap_or(0)));
    Ok(false)
}

/// The names in a folder, including hidden ones; none if there is no such folder.
pub(super) fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The step in a checkpoint's name.
pub(super) fn step(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.parse().ok()
}

/// A record without its timings, which are at the end of each line.
fn without_clock(record: &str) -> String {
    let line = |line: &str| {
        let (known, _) = line
            .split_once(",\"images_per_second\"")
            .unwrap_or((line, ""));
        format!("{known}\n")
    };
    record.lines().map(line).collect()
}

/// What is compared of a work: the hash of a training's state, its record without timings, the names
/// of its checkpoints, and every byte of all other files, such as samples.
fn facts(program: &Program, folder: &Path, run: &str) -> anyhow::Result<Facts> {
    let mut facts = Facts::new();
    let root = folder.join(run);
    if root.join("checkpoints").exists() {
        let hash = program.succeed(folder, &format!("check {run} --hash"))?;
        facts.insert("hash".into(), hash.into_bytes());
    }
    for name in names(&root)? {
        let path = root.join(&name);
        match name.as_str() {
            // The configuration of a resumed run has another number of workers.
            "config.toml" | "run.lock" => {
                facts.insert(name, Vec::new());
            }
            "checkpoints" => {
                facts.extend(names(&path)?.into_iter().map(|name| (name, Vec::new())));
            }
            "metrics.jsonl" => {
                let record = fs::read_to_string(&path).with_context(|| name.clone())?;
                facts.insert(name, without_clock(&record).into_bytes());
            }
            _ if path.is_dir() => {
                for file in names(&path)? {
                    let bytes = fs::read(path.join(&file)).with_context(|| file.clone())?;
                    facts.insert(format!("{name}/{file}"), bytes);
                }
            }
            _ => {
                let bytes = fs::read(&path).with_context(|| name.clone())?;
                facts.insert(name, bytes);
            }
        }
    }
    Ok(facts)
}

/// The names of the facts that differ.
fn differences(a: &Facts, b: &Facts) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let differ = names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name));
    differ.cloned().collect()
}

pub(super) mod tests {
    use super::{Facts, differences, step, without_clock};

    pub(in super::super) fn clock() {
        let record = "{\"step\":1,\"loss\":0.5,\"images_per_second\":7.5}\n\
                      {\"step\":2,\"loss\":0.25,\"images_per_second\":8.5,\"checkpoint\":{\"step\":1}}\n";
        let expected = "{\"step\":1,\"loss\":0.5\n{\"step\":2,\"loss\":0.25\n";
        assert_eq!(without_clock(record), expected);
    }

    pub(in super::super) fn differences_are_named() {
        let facts = |all: &[(&str, u8)]| -> Facts {
            let all = all.iter();
            all.map(|(name, byte)| ((*name).to_owned(), vec![*byte]))
                .collect()
        };
        let a = facts(&[("hash", 1), ("metrics.jsonl", 2), ("samples/1.png", 3)]);
        assert_eq!(differences(&a, &a), Vec::<String>::new());
        let b = facts(&[("hash", 9), ("metrics.jsonl", 2), ("samples/2.png", 3)]);
        assert_eq!(
            differences(&a, &b),
            ["hash", "samples/1.png", "samples/2.png"]
        );
    }

    pub(in super::super) fn steps() {
        assert_eq!(step("step-00000012"), Some(12));
        assert_eq!(step(".step-00000012.tmp"), None);
    }
}
