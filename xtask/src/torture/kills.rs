//! SIGKILL at random instants: what is resumed to its end must be the run that was never killed.

use super::{cases::Case, program::Program, random::Random};
use anyhow::Context as _;
use std::{fs, path::Path, thread::sleep, time::Duration, time::Instant};

/// Kills that one run is to suffer. A life is on average a quarter of the whole run, its start
/// included, so that most runs suffer as many.
const PER_RUN: usize = 6;

/// What came of killing one case's runs.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Kills {
    pub(super) recipe: &'static str,
    pub(super) features: bool,
    /// Processes killed before their end.
    pub(super) count: usize,
    /// Of these, how many had a checkpoint in the making.
    pub(super) unfinished: usize,
    /// Of these, how many had no checkpoint yet.
    pub(super) before: usize,
    /// Most steps that a kill cost.
    pub(super) lost: u64,
    /// Runs that were brought to their end.
    pub(super) runs: usize,
    /// What differed from the run that was never killed.
    pub(super) differences: Vec<String>,
}

/// What is compared of two runs.
struct End {
    /// What `ddpm check --hash` prints.
    hash: String,
    /// `metrics.jsonl` without what the clock says.
    metrics: String,
    /// The last grid of samples.
    picture: Vec<u8>,
    /// The names in its folders, hidden ones too.
    files: Vec<String>,
}

/// Kills runs of a case, `count` times all in all, in a folder of their own.
pub(super) fn kill(
    program: &Program,
    folder: &Path,
    case: &Case,
    count: usize,
    random: &mut Random,
) -> anyhow::Result<Kills> {
    fs::write(folder.join("first.toml"), &case.first)?;
    fs::write(folder.join("later.toml"), &case.later)?;
    let begun = Instant::now();
    program.succeed(folder, "train --config first.toml --out whole")?;
    let longest = begun.elapsed() / 2;
    let whole = End::of(program, folder, "whole")?;
    let mut found = Kills {
        recipe: case.recipe,
        features: case.features,
        ..Kills::default()
    };
    while found.count < count {
        let run = folder.join("run");
        if run.exists() {
            fs::remove_dir_all(&run)?;
        }
        let end = count.min(found.count + PER_RUN);
        while found.count < end && !live(program, folder, longest, random, &mut found)? {}
        let mut job = program.start(folder, life(&run))?;
        job.wait()?.ends_with(0)?;
        let ended = End::of(program, folder, "run")?;
        found.runs += 1;
        let differences = whole.differences(&ended);
        if !differences.is_empty() {
            let (run, differences) = (found.runs, differences.join(", "));
            let text = format!("run {run}: {differences}");
            found.differences.push(text);
            // Kept to be looked at.
            fs::rename(folder.join("run"), folder.join(format!("run-{run}")))?;
        }
    }
    Ok(found)
}

/// The arguments of a run's next life.
fn life(run: &Path) -> &'static str {
    if run.join("config.toml").exists() {
        "train --config later.toml --out run --resume"
    } else {
        "train --config first.toml --out run"
    }
}

/// One life, killed after a random time; true if it came to its own end before, which is no kill.
fn live(
    program: &Program,
    folder: &Path,
    longest: Duration,
    random: &mut Random,
    found: &mut Kills,
) -> anyhow::Result<bool> {
    let run = folder.join("run");
    let mut job = program.start(folder, life(&run))?;
    sleep(longest.mul_f64(random.unit()));
    if !job.kill()? {
        job.wait()?.ends_with(0)?;
        return Ok(true);
    }
    found.count += 1;
    let names = names(&run.join("checkpoints"))?;
    let newest = names.iter().filter_map(|name| step(name)).max();
    found.unfinished += usize::from(names.iter().any(|name| name.starts_with('.')));
    found.before += usize::from(newest.is_none());
    // The record is written before each checkpoint is begun, and says how far the run had come.
    let record = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let done = record.matches('\n').count() as u64;
    found.lost = found.lost.max(done.saturating_sub(newest.unwrap_or(0)));
    Ok(false)
}

/// The names in a folder, hidden ones too; none if there is no such folder.
pub(super) fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The step of a checkpoint's name.
pub(super) fn step(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.parse().ok()
}

/// A record without what the clock says, which is the end of each line.
fn without_clock(record: &str) -> String {
    let line = |line: &str| {
        let (known, _) = line
            .split_once(",\"images_per_second\"")
            .unwrap_or((line, ""));
        format!("{known}\n")
    };
    record.lines().map(line).collect()
}

impl End {
    fn of(program: &Program, folder: &Path, run: &str) -> anyhow::Result<Self> {
        let hash = program.succeed(folder, &format!("check {run} --hash"))?;
        let run = folder.join(run);
        let read = |name: &str| fs::read(run.join(name)).with_context(|| name.to_owned());
        let metrics = String::from_utf8(read("metrics.jsonl")?)?;
        let checkpoints = names(&run.join("checkpoints"))?;
        let newest = checkpoints.last().context("no checkpoint")?;
        let picture = read(&format!("samples/{newest}.png"))?;
        let files = [names(&run)?, checkpoints, names(&run.join("samples"))?];
        Ok(Self {
            hash,
            metrics: without_clock(&metrics),
            picture,
            files: files.concat(),
        })
    }

    /// What of another run is not as here.
    fn differences(&self, other: &Self) -> Vec<String> {
        let pairs = [
            ("hash", self.hash == other.hash),
            ("metrics", self.metrics == other.metrics),
            ("picture", self.picture == other.picture),
            ("files", self.files == other.files),
        ];
        let differ = pairs.into_iter().filter(|(_, same)| !same);
        differ.map(|(what, _)| what.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_left_out_of_a_record() {
        let record = "{\"step\":1,\"loss\":0.5,\"images_per_second\":7.5}\n\
                      {\"step\":2,\"loss\":0.25,\"images_per_second\":8.5,\"checkpoint\":{\"step\":1}}\n";
        let expected = "{\"step\":1,\"loss\":0.5\n{\"step\":2,\"loss\":0.25\n";
        assert_eq!(without_clock(record), expected);
    }

    #[test]
    fn each_difference_is_named() {
        let end = || End {
            hash: "a".into(),
            metrics: "b".into(),
            picture: vec![1],
            files: vec!["step-00000001".into()],
        };
        assert_eq!(end().differences(&end()), Vec::<String>::new());
        let other = End {
            hash: "x".into(),
            picture: vec![2],
            files: Vec::new(),
            ..end()
        };
        let expected = ["hash", "picture", "files"];
        assert_eq!(end().differences(&other), expected);
    }

    #[test]
    fn only_whole_checkpoints_have_a_step() {
        assert_eq!(step("step-00000012"), Some(12));
        assert_eq!(step(".step-00000012.tmp"), None);
    }
}
