//! Several processes train one run: `cargo xtask mpi` runs these, with the feature `mpi`.
//!
//! Linux tells a process's children and their environment, by which a rank is found.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::devices::{everything, reported, same};
use crate::diverged::reckless;
use crate::faults::{Running, endless, said, start_command, until, until_saved};
use crate::run::{ok, tiny};

/// `mpirun` of so many processes on this machine, whoever asks and however few its cores are.
fn mpirun(folder: &Path, ranks: usize) -> Command {
    let mut command = Command::new("mpirun");
    command.current_dir(folder);
    for (name, value) in [
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        // Ranks that are more than the cores each need all of them.
        ("RAYON_NUM_THREADS", "1"),
    ] {
        command.env(name, value);
    }
    command.args(["-n", &ranks.to_string()]);
    command
}

fn together(folder: &Path, ranks: usize, arguments: &str) -> Output {
    let mut command = mpirun(folder, ranks);
    command.arg(env!("CARGO_BIN_EXE_ddpm"));
    command
        .args(arguments.split_whitespace())
        .stdin(Stdio::null());
    command.output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_run_on_n_ranks_is_the_run_on_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    everything(folder);
    ok(folder, "train --config tiny.toml --out alone");
    for ranks in [1, 2, 4] {
        let arguments = format!("train --config tiny.toml --out ranks-{ranks}");
        let output = together(folder, ranks, &arguments);
        let errors = errors(&output);
        assert!(output.status.success(), "{errors}");
        let by = format!(" by {ranks} ranks");
        assert_eq!(errors.contains(&by), ranks > 1, "{errors}");
        // One writes, and says so once.
        assert_eq!(errors.matches("done: ").count(), 1, "{errors}");
        same(folder, "alone", &format!("ranks-{ranks}"));
    }
}

/// The process of a rank.
fn process_of(mpirun: &Child, rank: usize) -> u32 {
    let id = mpirun.id();
    let mut found = None;
    until("a rank", || {
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let variable = format!("OMPI_COMM_WORLD_RANK={rank}");
        found = children
            .unwrap_or_default()
            .split_whitespace()
            .find_map(|child| {
                let environment = fs::read(format!("/proc/{child}/environ")).ok()?;
                let mut variables = environment.split(|&byte| byte == 0);
                variables
                    .any(|v| v == variable.as_bytes())
                    .then(|| child.parse().unwrap())
            });
        found.is_some()
    });
    found.unwrap()
}

fn kill(signal: &str, process: u32) {
    let arguments = [format!("-{signal}"), process.to_string()];
    assert!(
        Command::new("kill")
            .args(arguments)
            .status()
            .unwrap()
            .success()
    );
}

/// Starts four ranks on a run that does not end, and waits for its first checkpoint.
fn four(folder: &Path) -> Running {
    endless(folder);
    let mut command = mpirun(folder, 4);
    command.arg(env!("CARGO_BIN_EXE_ddpm"));
    command.args(["train", "--config", "endless.toml", "--out", "run"]);
    let child = start_command(folder, &mut command);
    until_saved(folder);
    child
}

/// A rank that dies is named and takes the others with it; as many as there then are go on.
#[test]
fn a_dead_rank_is_named_and_the_job_resumes_with_another_number() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut child = four(folder);
    kill("KILL", process_of(&child, 2));
    assert!(!child.wait().unwrap().success());
    assert!(said(folder).contains("process rank 2"), "{}", said(folder));
    let output = together(folder, 2, "train --out run --resume --steps 1");
    assert!(output.status.success(), "{}", errors(&output));
    ok(folder, "check run");
}

/// One rank is asked to stop: all finish the same step, and the run is saved.
#[test]
fn all_ranks_stop_where_one_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut child = four(folder);
    kill("TERM", process_of(&child, 3));
    assert_eq!(child.wait().unwrap().code(), Some(143), "{}", said(folder));
    let said = said(folder);
    assert_eq!(
        said.matches("stopped by SIGTERM after step ").count(),
        1,
        "{said}"
    );
    let (_, rest) = said.split_once("after step ").unwrap();
    let (step, _) = rest.split_once(';').unwrap();
    let newest = folder.join(format!("run/checkpoints/step-{step:0>8}"));
    assert!(newest.join("manifest.json").is_file(), "{said}");
}

/// What cannot be one run is refused by name: rows that cannot be divided, and another seed.
#[test]
fn ranks_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let output = together(folder, 3, "train --config tiny.toml --out run");
    let said = errors(&output);
    assert!(!output.status.success());
    let words = "batch_size = 8 in accumulate = 2 parts cannot be divided evenly among 3";
    assert!(said.contains(words), "{said}");

    let program = env!("CARGO_BIN_EXE_ddpm");
    let seeded = |seed| format!("-n 1 {program} train --config tiny.toml --out two --seed {seed}");
    let mut command = mpirun(folder, 1);
    let rest = format!(
        "{program} train --config tiny.toml --out two --seed 0 : {}",
        seeded(1)
    );
    let output = command.args(rest.split_whitespace()).output().unwrap();
    let said = errors(&output);
    assert!(
        said.contains("rank 1 has another configuration than rank 0"),
        "{said}"
    );
    assert!(!output.status.success());
}

/// All rows of all ranks are in the report of a run that leaves the numbers.
#[test]
fn the_report_of_a_divergence_has_every_ranks_rows() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    reckless(folder);
    let output = together(folder, 2, "train --config reckless.toml --out run");
    assert!(!output.status.success());
    let said = errors(&output);
    assert!(said.contains("error: the "), "{said}");
    reported(folder);
}
