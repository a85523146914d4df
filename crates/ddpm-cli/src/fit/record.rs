//! `metrics.jsonl`, a line a step, and the curve drawn from it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use ddpm_files::write_file;
use ddpm_train::metrics::{self, Lines, Metrics};

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
    /// Opens the record of the run in the folder `out` for the steps after `step`; and says how many
    /// lines it held that are no step's.
    ///
    /// Removed are those lines, the lines of later steps, which will be done again, and what a process
    /// that died left of a line.
    pub(super) fn open(out: &Path, step: u64) -> Result<(Self, usize)> {
        let path = out.join(metrics::NAME);
        let bytes = match metrics::read(out) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            bytes => bytes,
        };
        let bytes = bytes.with_context(|| path.display().to_string())?;
        let Lines { steps, bad } = Lines::of(&bytes);
        let before = steps.into_iter().filter(|(line, _)| line.step <= step);
        let kept: String = before.map(|(_, text)| text).collect();
        write_file(&path, kept.as_bytes())?;
        let record = Self {
            path,
            length: kept.len() as u64,
            pending: Vec::new(),
        };
        Ok((record, bad))
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
    let path = out.join(metrics::NAME);
    let bytes = metrics::read(out).with_context(|| path.display().to_string())?;
    let steps = Lines::of(&bytes).steps.into_iter();
    let points: Vec<_> = steps.map(|(m, _)| (m.step as f64, m.loss)).collect();
    let line = Line {
        name: "loss",
        color: "steelblue",
        points: plot::thin(&points, 300),
    };
    let picture = plot::svg("step", &[line], [Scale::Linear, Scale::Log]);
    write_file(&out.join("loss.svg"), picture.as_bytes())?;
    Ok(())
}
