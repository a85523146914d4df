//! `cargo xtask scale`: measures what a training step costs by batch, image size, channels and
//! processes, and what a checkpoint costs. The tables go to `docs/scale.md`.

mod cost;
mod data;
mod page;

use anyhow::{Context as _, bail, ensure};
use cost::{Checkpoint, Cost, Setting};
use ddpm_compare::{build, emptied, number};
use std::{
    env,
    ffi::OsString,
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
};
use xtask::{MPI_PACKAGES, missing_mpi, no_arguments, report, root, target};

/// Rounds of every measurement. The settings alternate; the median is reported.
const ROUNDS: usize = 3;

/// Steps at the start that are not timed: they allocate memory and start threads.
const WARMUP: usize = 3;

/// The setting from which each of the others differs in one value.
const BASE: Setting = Setting {
    side: 16,
    channels: "[32, 64]",
    batch: 32,
    processes: 1,
    threads: 2,
};

fn settings() -> Vec<Setting> {
    let batches = [8, 32, 128].map(|batch| Setting { batch, ..BASE });
    let sides = [8, 32].map(|side| Setting { side, ..BASE });
    let channels = ["[16, 32]", "[64, 128]"].map(|channels| Setting { channels, ..BASE });
    batches.into_iter().chain(sides).chain(channels).collect()
}

/// One process with one thread, one with two, and two with one each.
fn divided() -> [Setting; 3] {
    [(1, 1), (1, 2), (2, 1)].map(|(processes, threads)| Setting {
        processes,
        threads,
        ..BASE
    })
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    report(scale(&arguments))
}

/// Measures everything, prints the tables and writes them to `docs/scale.md`.
fn scale(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    no_arguments(arguments)?;
    let missing = missing_mpi();
    if let Some(name) = missing {
        println!("several processes are not measured: no {name} here ({MPI_PACKAGES})");
    }
    let options: &[&str] = match missing {
        Some(_) => &[],
        None => &["--features", "mpi"],
    };
    let program = build("ddpm-cli", options, "ddpm")?;
    let folder = target().join("scale");
    emptied(&folder)?;
    let single = measure(&program, &folder, &settings())?;
    let divided = match missing {
        Some(_) => Vec::new(),
        None => measure(&program, &folder, &divided())?,
    };
    let checkpoints = [("digits", 40), ("fashion-mnist", 40), ("cifar10", 3)]
        .into_iter()
        .map(|(name, steps)| checkpoint(&program, &folder, name, steps))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let tables = page::Tables {
        single: &single,
        divided: &divided,
        checkpoints: &checkpoints,
    };
    print!("{}", tables.text());
    if missing.is_some() {
        bail!("docs/scale.md was not changed, because several processes were not measured");
    }
    let path = root().join("docs/scale.md");
    fs::write(&path, tables.page()).with_context(|| path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Measures the costs of settings in several rounds, in which they alternate.
fn measure(program: &Path, folder: &Path, settings: &[Setting]) -> anyhow::Result<Vec<Cost>> {
    let mut found = vec![(0.0, Vec::new()); settings.len()];
    for round in 0..ROUNDS {
        for (setting, (parameters, seconds)) in settings.iter().zip(&mut found) {
            eprintln!("round {}: {}", round + 1, setting.name());
            let (count, step) = setting.run(program, folder)?;
            *parameters = count;
            seconds.push(step);
        }
    }
    let costs = settings.iter().zip(found);
    Ok(costs
        .map(|(setting, (parameters, mut seconds))| {
            seconds.sort_by(f64::total_cmp);
            Cost {
                setting: setting.clone(),
                parameters,
                seconds: [median(&seconds), seconds[0], seconds[ROUNDS - 1]],
            }
        })
        .collect())
}

impl Setting {
    fn name(&self) -> String {
        let Self {
            side,
            channels,
            batch,
            processes,
            threads,
        } = self;
        format!("{side}², {channels}, batch {batch}, {processes} × {threads}")
    }

    /// Trains some steps. Returns the number of weights and the median seconds per step.
    fn run(&self, program: &Path, folder: &Path) -> anyhow::Result<(f64, f64)> {
        let name = format!("idx-{}", self.side);
        data::write_idx(&folder.join(&name), self.side)?;
        let recipe = output(Command::new(program).args(["recipe", "digits"]))?.0;
        let config = changed(
            recipe,
            &[
                ("\nsteps = 1000\n", "\nsteps = 15\n"),
                ("batch_size = 64", &format!("batch_size = {}", self.batch)),
                (
                    "\"digits\"\n\n[pro",
                    &format!("\"idx\"\npath = \"{name}\"\n\n[pro"),
                ),
                ("[32, 64]", self.channels),
                ("every = 250\n\n", "every = 0\n\n"),
                ("every = 250", "every = 1000"),
            ],
        )?;
        let (file, run) = (folder.join("scale.toml"), folder.join("run"));
        fs::write(&file, config).with_context(|| file.display().to_string())?;
        if run.exists() {
            fs::remove_dir_all(&run).with_context(|| run.display().to_string())?;
        }
        let mut command = match self.processes {
            1 => Command::new(program),
            n => {
                let mut command = Command::new("mpirun");
                command.args(["-n", &n.to_string()]).arg(program);
                command
            }
        };
        train(&mut command, &file, &run);
        command.current_dir(folder);
        command.env("RAYON_NUM_THREADS", self.threads.to_string());
        for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
            command.env(name, "1");
        }
        let (_, said) = output(&mut command)?;
        Ok((parameters(&said)?, step(&run)?.0))
    }
}

/// Adds the arguments with which the program trains by a configuration file.
fn train(command: &mut Command, file: &Path, run: &Path) {
    command.arg("train");
    command.arg("--config").arg(file).arg("--out").arg(run);
}

/// Measures what a checkpoint costs in a run of a recipe.
fn checkpoint(
    program: &Path,
    folder: &Path,
    name: &'static str,
    steps: u32,
) -> anyhow::Result<Checkpoint> {
    eprintln!("a checkpoint of {name}");
    data::write_idx(&folder.join("idx"), 28)?;
    data::write_cifar10(&folder.join("cifar10"))?;
    let recipe = output(Command::new(program).args(["recipe", name]))?.0;
    let batch = if name == "cifar10" { "16" } else { "32" };
    let (file, run) = (
        folder.join("scale.toml"),
        folder.join(format!("run-{name}")),
    );
    let recipe = without_pictures(&recipe).context("a recipe without pictures")?;
    fs::write(&file, recipe).with_context(|| file.display().to_string())?;
    let mut command = Command::new(program);
    train(&mut command, &file, &run);
    command.args(["--steps", &steps.to_string(), "--batch-size", batch]);
    // The first checkpoints are written while training continues; no step follows the last.
    let every = (steps / 3).max(1).to_string();
    command.args(["--checkpoint-every", &every]);
    match name {
        "fashion-mnist" => command.arg("--data").arg(folder.join("idx")),
        "cifar10" => command.arg("--data").arg(folder.join("cifar10")),
        _ => &mut command,
    };
    let (_, said) = output(&mut command)?;
    let (step, saved) = step(&run)?;
    let [Some(first), Some(last)] = [saved.first(), saved.last()] else {
        bail!("{name}: no checkpoint was written while it trained");
    };
    let of = |line: &str, key| number(line, key).with_context(|| format!("no {key} in {line}"));
    Ok(Checkpoint {
        name,
        parameters: parameters(&said)?,
        bytes: of(last, "bytes")?,
        seconds: of(last, "seconds")?,
        stalls: [of(first, "stall")?, of(last, "stall")?],
        step,
    })
}

/// A recipe without pictures during training, which may take longer than the training.
fn without_pictures(recipe: &str) -> Option<String> {
    let (head, sampling) = recipe.split_once("[sampling]")?;
    let (before, every) = sampling.split_once("every = ")?;
    let (_, after) = every.split_once('\n')?;
    Some(format!("{head}[sampling]{before}every = 0\n{after}"))
}

/// The median seconds of a run's steps, and its records of checkpoints.
fn step(run: &Path) -> anyhow::Result<(f64, Vec<String>)> {
    let path = run.join("metrics.jsonl");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let config = run.join("config.toml");
    let config = fs::read_to_string(&config).with_context(|| config.display().to_string())?;
    let batch = config
        .lines()
        .find_map(|line| line.strip_prefix("batch_size = ")?.parse::<f64>().ok())
        .context("no batch_size")?;
    let mut seconds = Vec::new();
    for line in text.lines() {
        let rate = number(line, "images_per_second").context("no images_per_second")?;
        seconds.push(batch / rate);
    }
    // In a very short run only the last step is timed.
    let skipped = WARMUP.min(seconds.len().saturating_sub(1));
    let mut counted = seconds.split_off(skipped);
    ensure!(!counted.is_empty(), "{}: no step", path.display());
    counted.sort_by(f64::total_cmp);
    let saved = text.lines().filter_map(|line| {
        let (_, saved) = line.split_once("\"checkpoint\":")?;
        Some(saved.to_owned())
    });
    Ok((median(&counted), saved.collect()))
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// The number of weights in a run's first line.
fn parameters(said: &str) -> anyhow::Result<f64> {
    let count = said.split_once(" parameters").and_then(|(before, _)| {
        let (_, count) = before.rsplit_once(' ')?;
        count.parse().ok()
    });
    count.with_context(|| format!("no number of parameters in {said:?}"))
}

/// What a program writes to standard output and to standard error.
///
/// # Errors
/// It cannot be started, or it fails.
fn output(command: &mut Command) -> anyhow::Result<(String, String)> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?} failed: {said}");
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), said))
}

/// A text with all the changes, each made at the first place that fits; there must be one.
fn changed(mut text: String, changes: &[(&str, &str)]) -> anyhow::Result<String> {
    for (from, to) in changes {
        ensure!(text.contains(from), "no {from:?} to be replaced");
        text = text.replacen(from, to, 1);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_weights_is_read() {
        let said = "digits: 40 rows of 1×8×8, 702753 parameters by 2 processes, in run\n";
        assert_eq!(parameters(said).unwrap(), 702_753.0);
        assert!(parameters("step 1").is_err());
    }
}
