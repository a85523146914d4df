//! Signals, and two processes on one folder.

use super::{Bench, Fault};
use anyhow::ensure;
use std::fs;

/// How often a process is stopped by each signal.
const TIMES: usize = 5;

/// One signal: the step is finished and saved, and the message says how to resume.
pub(super) fn signals(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for signal in ["INT", "TERM"] {
        let mut said = String::new();
        for _ in 0..TIMES {
            let run = bench.path("run");
            if run.exists() {
                fs::remove_dir_all(&run)?;
            }
            let job = bench.started("endless.toml", "run")?;
            said = bench.settled(job, signal, "run")?.first_line();
        }
        faults.push(Fault::new(format!("SIG{signal}"), TIMES, "0", said));
    }
    Ok(faults)
}

/// Two signals: the process ends at once, in the middle of a long step.
pub(super) fn second_signal(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    let long = bench.read("endless.toml")?;
    let long = super::changed(
        long,
        &[
            ("batch_size = 8", "batch_size = 20000"),
            ("hidden = 16", "hidden = 128"),
            ("every = 10\n", "every = 1\n"),
        ],
    )?;
    bench.write("long.toml", &long)?;
    let mut job = bench.started("long.toml", "run")?;
    job.signal(&["INT", "TERM"])?;
    let outcome = job.wait()?;
    let code = outcome.code;
    // The system may deliver the two signals in either order.
    ensure!(matches!(code, Some(130 | 143)), "exit code {code:?}");
    let said = outcome.first_line();
    ensure!(said.is_empty(), "it took the time to say: {said}");
    let done = bench.read("run/metrics.jsonl")?.lines().count() as u64;
    let steps = done + 2;
    bench.ok(&format!("train --out run --resume --steps {steps}"))?;
    bench.is_the_run("run", "long.toml", steps)?;
    let lost = "those since the newest checkpoint";
    Ok(vec![Fault::new("a second signal", 1, lost, "")])
}

/// A second process in the same folder: it is refused, and the first continues.
pub(super) fn second_process(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    let mut job = bench.started("endless.toml", "run")?;
    let mut said = String::new();
    for _ in 0..TIMES {
        for command in [
            "train --out run --resume",
            "train --config endless.toml --out run",
        ] {
            said = bench.refused(command)?;
            ensure!(said.contains("in use by another process"), "{said}");
        }
    }
    ensure!(!job.is_over()?, "the first has ended: {}", job.said());
    bench.settled(job, "INT", "run")?;
    Ok(vec![Fault::new(
        "two processes on one folder",
        2 * TIMES,
        "0",
        said,
    )])
}

/// A killed process leaves the file of its lock, which does not block the next.
pub(super) fn dead_lock(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    let mut job = bench.started("endless.toml", "run")?;
    job.kill()?;
    ensure!(bench.path("run/run.lock").exists(), "there is no lock");
    let job = bench
        .program
        .start(&bench.folder, "train --out run --resume");
    let mut job = job?;
    job.until_said(" rows of ")?;
    job.until("a checkpoint more", |job| {
        ensure!(!job.is_over()?, "it ended: {}", job.said());
        Ok(bench.read("run/metrics.jsonl")?.lines().count() > 50)
    })?;
    let said = bench.settled(job, "INT", "run")?.first_line();
    ensure!(said.starts_with("stopped by "), "{said}");
    let lost = "those since the newest checkpoint";
    Ok(vec![Fault::new("the lock of a dead process", 1, lost, "")])
}
