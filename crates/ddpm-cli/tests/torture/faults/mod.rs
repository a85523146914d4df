//! Faults, injected one after the other: what each costs, and its message.

pub(super) mod checkpoints;
mod disks;
mod inputs;
mod processes;

use super::{
    cases::changed,
    kills,
    program::{Job, Outcome, Program},
    streams,
};
use anyhow::{Context as _, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The result of a fault.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    /// The name of the fault.
    pub(super) what: String,
    /// How often it was injected; if it was not, 0, and `said` is the reason.
    pub(super) times: usize,
    /// The training steps that were lost.
    pub(super) lost: String,
    /// The first line of its message.
    pub(super) said: String,
    /// Whether a promise was broken; `said` tells which.
    pub(super) broken: bool,
}

impl Fault {
    fn new(what: impl Into<String>, times: usize, lost: &str, said: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            times,
            lost: lost.to_owned(),
            said: said.into(),
            broken: false,
        }
    }
}

/// Injects faults of one kind.
type Injection = fn(&Bench) -> anyhow::Result<Vec<Fault>>;

/// All injections, each with a name for its failure.
const ALL: [(&str, Injection); 16] = [
    ("damage to checkpoints", checkpoints::damage),
    ("no whole checkpoint", checkpoints::none_whole),
    ("SIGINT and SIGTERM", processes::signals),
    ("a second signal", processes::second_signal),
    ("a second process", processes::second_process),
    ("a dead process's lock", processes::dead_lock),
    ("a full disk", disks::full),
    ("a quota", disks::quota),
    ("a folder that becomes read-only", disks::read_only),
    ("a read-only folder", disks::read_only_from_the_start),
    ("a vanished folder", disks::vanished),
    ("data that changes", inputs::data_changes),
    ("data that disappears", inputs::data_disappears),
    ("a loss that is not finite", inputs::diverges),
    ("a learning rate of 1e30", inputs::reckless_rate),
    ("too little memory", inputs::memory),
];

/// Injects all faults, each in its own folder below `folder`.
pub(super) fn inject(program: &Program, folder: &Path) -> anyhow::Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for (number, (name, injection)) in ALL.into_iter().enumerate() {
        eprintln!("{name}");
        let bench = Bench::new(program, folder.join(format!("fault-{number}")))?;
        faults.extend(injection(&bench).unwrap_or_else(|error| {
            let mut fault = Fault::new(name, 1, "", format!("{error:#}"));
            fault.broken = true;
            vec![fault]
        }));
    }
    Ok(faults)
}

/// Tries streams and signals in a folder below `folder`.
pub(super) fn streams(program: &Program, folder: &Path) -> anyhow::Result<Vec<streams::Row>> {
    eprintln!("streams and signals");
    let bench = Bench::new(program, folder.join("streams"))?;
    bench.ok("train --config tiny.toml --out trained")?;
    streams::try_all(program, &bench.folder)
}

/// A folder in which a fault is injected.
struct Bench<'a> {
    program: &'a Program,
    folder: PathBuf,
}

impl<'a> Bench<'a> {
    /// Makes the folder with two configurations. `tiny.toml` has four steps and a checkpoint every two.
    /// `endless.toml` has a checkpoint every ten steps; its learning rate does not depend on the number
    /// of steps.
    fn new(program: &'a Program, folder: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let bench = Self { program, folder };
        let tiny = bench.recipe(
            "digits",
            &[
                ("\nsteps = 1000\n", "\nsteps = 4\n"),
                ("batch_size = 64", "batch_size = 8"),
                ("[32, 64]", "[8, 8]"),
                ("norm_num_groups = 8", "norm_num_groups = 4"),
                (
                    "steps = 50\ncount = 100\nevery = 250",
                    "steps = 3\ncount = 3\nevery = 2",
                ),
                ("[checkpoint]\nevery = 250", "[checkpoint]\nevery = 2"),
            ],
        )?;
        let endless = bench.recipe(
            "swiss-roll",
            &[
                ("\nsteps = 10000\n", "\nsteps = 1000000\n"),
                ("batch_size = 256", "batch_size = 8"),
                ("hidden = 128", "hidden = 16"),
                ("decay = \"cosine\"\n", ""),
                ("count = 2000\nevery = 1000", "count = 4\nevery = 0"),
                (
                    "[checkpoint]\nevery = 1000",
                    "[checkpoint]\nevery = 10\nkeep_last = 3",
                ),
            ],
        )?;
        bench.write("tiny.toml", &tiny)?;
        bench.write("endless.toml", &endless)?;
        Ok(bench)
    }

    /// A recipe with some changes.
    fn recipe(&self, name: &str, changes: &[(&str, &str)]) -> anyhow::Result<String> {
        let text = self.ok(&format!("recipe {name}"))?;
        changed(text, changes).with_context(|| format!("recipe {name}"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> anyhow::Result<String> {
        fs::read_to_string(self.path(name)).with_context(|| name.to_owned())
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        fs::write(self.path(name), text).with_context(|| name.to_owned())
    }

    fn run(&self, arguments: &str) -> anyhow::Result<Outcome> {
        self.program.run(&self.folder, arguments)
    }

    fn ok(&self, arguments: &str) -> anyhow::Result<String> {
        self.program.succeed(&self.folder, arguments)
    }

    /// Runs a command that must end with exit code 1; returns its message.
    fn refused(&self, arguments: &str) -> anyhow::Result<String> {
        let outcome = self.run(arguments)?;
        outcome
            .ends_with(1)
            .with_context(|| format!("ddpm {arguments}"))?;
        // A message may name the current folder, which differs between machines.
        let folder = fs::canonicalize(&self.folder)?;
        let folder = folder.display().to_string();
        Ok(outcome.first_line().replace(&folder, "FOLDER"))
    }

    fn hash(&self, run: &str) -> anyhow::Result<String> {
        self.ok(&format!("check {run} --hash"))
    }

    /// Checks that a run equals a run of `config` without faults.
    fn is_the_run(&self, run: &str, config: &str, steps: u64) -> anyhow::Result<()> {
        let whole = self.path("whole");
        if whole.exists() {
            fs::remove_dir_all(&whole)?;
        }
        self.ok(&format!(
            "train --config {config} --out whole --steps {steps}"
        ))?;
        let same = self.hash(run)? == self.hash("whole")?;
        ensure!(same, "{run} differs from a run without faults");
        Ok(())
    }

    /// Starts a run in the folder `run` and waits for a checkpoint.
    fn started(&self, config: &str, run: &str) -> anyhow::Result<Job> {
        let arguments = format!("train --config {config} --out {run}");
        let mut job = self.program.start(&self.folder, &arguments)?;
        let checkpoints = self.path(run).join("checkpoints");
        job.until("a checkpoint", |_| {
            let names = kills::names(&checkpoints)?;
            Ok(names.iter().any(|name| kills::step(name).is_some()))
        })?;
        Ok(job)
    }

    /// Stops an endless run in the folder `run`, resumes it, and checks that it equals a run without
    /// faults. Returns how the stopped run ended.
    fn settled(&self, mut job: Job, signal: &str, run: &str) -> anyhow::Result<Outcome> {
        job.signal(&[signal])?;
        let outcome = job.wait()?;
        outcome.ends_with(if signal == "INT" { 130 } else { 143 })?;
        let step = outcome.said.lines().last().and_then(stopped_after);
        let steps = step.context("no step is named")? + 5;
        self.ok(&format!("train --out {run} --resume --steps {steps}"))?;
        self.is_the_run(run, "endless.toml", steps)?;
        Ok(outcome)
    }
}

/// The step in the message of a stopped run.
fn stopped_after(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(" after step ")?;
    rest.split(';').next()?.parse().ok()
}

/// Runs a program of the system; the error is its message.
fn system(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

pub(super) mod tests {
    use super::{stopped_after, system};

    pub(in super::super) fn stopped_step() {
        let line = "stopped by SIGINT after step 120; go on with: ddpm train";
        assert_eq!(stopped_after(line), Some(120));
        assert_eq!(stopped_after("error: no"), None);
    }

    pub(in super::super) fn refusals() {
        assert_eq!(system("true", &[]), Ok(()));
        let error = system("no-such-program", &[]).unwrap_err();
        assert!(error.starts_with("no-such-program: "), "{error}");
    }
}
