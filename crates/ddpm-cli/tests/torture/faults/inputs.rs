//! Data that changes, losses that are not finite, and networks that are too large.

use super::{Bench, Fault, changed};
use crate::{cases::write_idx, random::Random};
use anyhow::ensure;
use std::fs;

/// Side of the images, in pixels.
const SIDE: u8 = 8;

/// Starts a run on files that `harm` replaces or removes while it runs, which must not change the
/// run. Resuming it with the new files must be refused, and with the original files must succeed.
fn on_files(
    bench: &Bench,
    what: &str,
    harm: fn(&Bench) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Fault>> {
    let tiny = bench.read("tiny.toml")?;
    let changes = [
        ("\"digits\"\n\n", "\"idx\"\npath = \"data\"\n\n"),
        ("\nsteps = 4\n", "\nsteps = 40\n"),
        ("decay = \"cosine\"\n", ""),
    ];
    bench.write("files.toml", &changed(tiny, &changes)?)?;
    let data = bench.path("data");
    write_idx(&data, SIDE, &mut Random::new(0))?;
    let mut job = bench.started("files.toml", "run")?;
    harm(bench)?;
    job.wait()?.ends_with(0)?;
    let said = bench.refused("train --out run --resume --steps 42")?;
    write_idx(&data, SIDE, &mut Random::new(0))?;
    bench.ok("train --out run --resume --steps 42")?;
    bench.is_the_run("run", "files.toml", 42)?;
    Ok(vec![Fault::new(what, 1, "0", said)])
}

/// Replaces the images by others of the same number and size.
pub(super) fn data_changes(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    on_files(bench, "data that changes under a run", |bench| {
        write_idx(&bench.path("data"), SIDE, &mut Random::new(1))
    })
}

/// Removes the images.
pub(super) fn data_disappears(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    on_files(bench, "data that disappears under a run", |bench| {
        Ok(fs::remove_dir_all(bench.path("data"))?)
    })
}

/// Trains a deep narrow network with a learning rate that grows towards 1, until its output
/// overflows. Another run with a lower rate starts with the weights of the last checkpoint.
pub(super) fn diverges(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    let endless = bench.read("endless.toml")?;
    let reckless = [
        ("steps = 1000000\n", "steps = 60\n"),
        ("timesteps = 200", "timesteps = 10"),
        ("beta_end = 0.06", "beta_end = 0.5"),
        ("layers = 3", "layers = 40"),
        ("learning_rate = 1e-3", "learning_rate = 1.0"),
        ("warmup = 100", "warmup = 40"),
        ("clip = 1.0\n", ""),
        ("\nsteps = 200", "\nsteps = 10"),
    ];
    bench.write("reckless.toml", &changed(endless, &reckless)?)?;
    let said = bench.refused("train --config reckless.toml --out run")?;
    let report = bench.path("run/diverged.json");
    ensure!(said.contains("diverged.json") && report.exists(), "{said}");
    // The record has every step before; there is a checkpoint every ten steps.
    let done = bench.read("run/metrics.jsonl")?.lines().count();
    let again = bench.refused("train --out run --resume")?;
    ensure!(again == said, "resumed it says: {again}");
    let config = bench.read("reckless.toml")?;
    let gentle = changed(config, &[("learning_rate = 1.0", "learning_rate = 1e-4")])?;
    bench.write("gentle.toml", &gentle)?;
    bench.ok("train --config gentle.toml --out gentle --init-from run")?;
    let lost = (done % 10).to_string();
    Ok(vec![Fault::new(
        "a loss that is not finite",
        1,
        &lost,
        said,
    )])
}

/// Starts a run with a learning rate that cannot work: it is refused.
pub(super) fn reckless_rate(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    let tiny = bench.read("tiny.toml")?;
    let rate = [("learning_rate = 1e-3", "learning_rate = 1e30")];
    bench.write("rate.toml", &changed(tiny, &rate)?)?;
    let said = bench.refused("train --config rate.toml --out run")?;
    ensure!(!bench.path("run").exists(), "something was begun");
    Ok(vec![Fault::new("a learning rate of 1e30", 1, "0", said)])
}

/// Asks for more memory than the machine has: it is refused before any is allocated.
pub(super) fn memory(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for (what, change) in [
        (
            "a network that exceeds the memory",
            ("[8, 8]", "[1048576, 1048576]"),
        ),
        (
            "a batch that exceeds the memory",
            ("batch_size = 8\n", "batch_size = 4294967294\n"),
        ),
    ] {
        let tiny = bench.read("tiny.toml")?;
        bench.write("big.toml", &changed(tiny, &[change])?)?;
        let said = bench.refused("train --config big.toml --out run")?;
        ensure!(!bench.path("run").exists(), "something was begun");
        faults.push(Fault::new(what, 1, "0", said));
    }
    Ok(faults)
}
