//! Full disks, folders that cannot be written, and folders that vanish.

use super::{Bench, Fault, system};
use anyhow::ensure;
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

/// The message of a run that can write again.
const AGAIN: &str = "checkpoint written again";

/// A file system over a folder until this is dropped. Only root may mount it.
struct Mount(PathBuf);

impl Mount {
    /// A disk of `kib` KiB, in memory.
    fn disk(folder: &Path, kib: u32) -> Result<Self, String> {
        let shown = folder.display().to_string();
        let size = format!("size={kib}k");
        system("mount", &["-t", "tmpfs", "-o", &size, "ddpm", &shown])?;
        Ok(Self(folder.to_owned()))
    }

    /// The folder itself, read-only for files that are opened from now on.
    fn read_only(folder: &Path) -> Result<Self, String> {
        let shown = folder.display().to_string();
        system("mount", &["--bind", &shown, &shown])?;
        let mount = Self(folder.to_owned());
        // The system refuses it while a file in it is open for writing.
        let mut refused = Err(String::new());
        for _ in 0..1000 {
            refused = system("mount", &["-o", "remount,bind,ro", &shown]);
            if refused.is_ok() {
                return Ok(mount);
            }
        }
        refused.map(|()| mount)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let shown = self.0.display().to_string();
        // Lazily, because a file in it may be open.
        if let Err(error) = system("umount", &["-l", &shown]) {
            eprintln!("{shown} is still mounted: {error}");
        }
    }
}

/// A fault that could not be injected.
fn not_run(what: &str, reason: &str) -> Vec<Fault> {
    let said = format!("not run: {reason}");
    vec![Fault::new(what, 0, "", said)]
}

/// Fills the disk of a run, and clears it again.
pub(super) fn full(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    const TIMES: usize = 3;
    let what = "a full disk";
    let disk = bench.path("disk");
    fs::create_dir_all(&disk)?;
    let mount = match Mount::disk(&disk, 4096) {
        Ok(mount) => mount,
        Err(reason) => return Ok(not_run(what, &reason)),
    };
    let mut job = bench.started("endless.toml", "disk/run")?;
    for times in 1..=TIMES {
        fill(&disk.join("filler"))?;
        let goes_on = "training goes on: checkpoint not written: ";
        job.until(goes_on, |job| {
            Ok(job.said().matches(goes_on).count() >= times)
        })?;
        fs::remove_file(disk.join("filler"))?;
        job.until(AGAIN, |job| Ok(job.said().matches(AGAIN).count() >= times))?;
    }
    let said = bench.settled(job, "INT", "disk/run")?.first_line();
    drop(mount);
    Ok(vec![Fault::new(what, TIMES, "0", said)])
}

/// Writes to a file until the disk is full.
fn fill(path: &Path) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    for block in [vec![0; 4096], vec![0; 1]] {
        while file.write_all(&block).is_ok() {}
    }
    Ok(())
}

/// Limits the length of files below that of the weights, as a quota does. The run ends without its
/// last files, and is resumed without the limit.
pub(super) fn quota(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    bench.ok("train --config tiny.toml --out run --steps 2")?;
    let half = bench.hash("run")?;
    let arguments = "train --out run --resume --steps 4";
    let outcome = bench.program.run_limited(&bench.folder, 16, arguments)?;
    outcome.ends_with(1)?;
    ensure!(bench.hash("run")? == half, "what was there has changed");
    bench.ok(arguments)?;
    bench.is_the_run("run", "tiny.toml", 4)?;
    let what = "a quota, to the run's end (`ulimit -f`)";
    Ok(vec![Fault::new(what, 1, "2", outcome.first_line())])
}

/// Makes a run's folder read-only during the run, and writable again.
pub(super) fn read_only(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    let what = "a folder that becomes read-only";
    let mut job = bench.started("endless.toml", "run")?;
    let mount = match Mount::read_only(&bench.path("run")) {
        Ok(mount) => mount,
        Err(reason) => return Ok(not_run(what, &reason)),
    };
    job.until_said("training goes on: checkpoint not written: ")?;
    drop(mount);
    job.until_said(AGAIN)?;
    let said = bench.settled(job, "INT", "run")?.first_line();
    Ok(vec![Fault::new(what, 1, "0", said)])
}

/// Starts a run in a read-only folder: it is refused before anything is computed.
pub(super) fn read_only_from_the_start(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    let what = "a read-only folder";
    fs::create_dir_all(bench.path("closed"))?;
    let mount = match Mount::read_only(&bench.path("closed")) {
        Ok(mount) => mount,
        Err(reason) => return Ok(not_run(what, &reason)),
    };
    let said = bench.refused("train --config tiny.toml --out closed/run")?;
    drop(mount);
    Ok(vec![Fault::new(what, 1, "0", said)])
}

/// Moves a run's folder away, as if its disk was removed, and back.
pub(super) fn vanished(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    let (run, away) = (bench.path("run"), bench.path("away"));
    let mut job = bench.started("endless.toml", "run")?;
    fs::rename(&run, &away)?;
    job.until_said("training goes on: checkpoint not written: ")?;
    ensure!(!run.exists(), "the folder was made anew");
    fs::rename(&away, &run)?;
    job.until_said(AGAIN)?;
    let said = bench.settled(job, "INT", "run")?.first_line();
    Ok(vec![Fault::new("a vanished folder", 1, "0", said)])
}
