//! `metrics.jsonl`, a line a step, and the curve drawn from it.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Metrics;
use crate::checkpoint::write_file;
use crate::plot::{self, Line, Scale};

/// Lines are written once they are so long together.
const CHUNK: usize = 8192;

/// The record of a run. Lines that cannot be written are kept and written when they can be.
pub(super) struct Record {
    path: PathBuf,
    /// Length of the file up to the last line known to be in it.
    length: u64,
    pending: Vec<u8>,
}

impl Record {
    /// Opens a record for the steps after `step`; the lines of later ones, which will be done again,
    /// are removed, and what a process that died left of a line.
    pub(super) fn open(path: &Path, step: u64) -> Result<Self> {
        let mut kept = String::new();
        if path.exists() {
            let bytes = fs::read(path).with_context(|| path.display().to_string())?;
            let text = String::from_utf8_lossy(&bytes);
            let before = |line: &&str| {
                let metrics = serde_json::from_str::<Metrics>(line);
                line.ends_with('\n') && metrics.is_ok_and(|metrics| metrics.step <= step)
            };
            kept = text.split_inclusive('\n').take_while(before).collect();
        }
        write_file(path, kept.as_bytes())?;
        Ok(Self {
            path: path.to_owned(),
            length: kept.len() as u64,
            pending: Vec::new(),
        })
    }

    /// Adds a step's line.
    pub(super) fn push(&mut self, metrics: &Metrics) -> Result<()> {
        serde_json::to_writer(&mut self.pending, metrics)?;
        self.pending.push(b'\n');
        if self.pending.len() >= CHUNK {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes all lines.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.append()
            .with_context(|| self.path.display().to_string())
    }

    fn append(&mut self) -> std::io::Result<()> {
        let mut file = self.file()?;
        // A write that failed may have left a part of a line; a file made anew is shorter.
        self.length = self.length.min(file.metadata()?.len());
        file.set_len(self.length)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(&self.pending)?;
        self.length += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn file(&self) -> std::io::Result<File> {
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        options.open(&self.path)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // The run ends by an error, which is what will be said.
        let _ = self.flush();
    }
}

/// Draws `loss.svg` from a run's metrics: the loss over the steps, thinned to readable density.
pub(super) fn plot_loss(out: &Path) -> Result<()> {
    let path = out.join("metrics.jsonl");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let points = text
        .lines()
        .map(|line| serde_json::from_str(line).map(|m: Metrics| (m.step as f64, m.loss)))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| path.display().to_string())?;
    let line = Line {
        name: "loss",
        color: "steelblue",
        points: plot::thin(&points, 300),
    };
    let picture = plot::svg("step", &[line], Scale::Log);
    write_file(&out.join("loss.svg"), picture.as_bytes())?;
    Ok(())
}
