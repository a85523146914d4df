//! `--init-noise`: standard normal noise from a file, read batch by batch.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, ensure};
use safetensors::tensor::Dtype;

use crate::rows::{self, Reader};
use crate::sample::batches;

/// Rows that are looked at together.
const ROWS: usize = 1024;

/// The tensor `noise` of a safetensors file.
pub(super) struct InitNoise {
    reader: Reader,
}

impl InitNoise {
    /// Opens a file that must hold the noise of so many samples of a shape.
    ///
    /// # Errors
    ///
    /// If it does not, or a number of it is not finite.
    pub(super) fn open(path: &Path, count: usize, shape: &[usize]) -> Result<Self> {
        let mut reader = Reader::open(path, "noise")?;
        let shown = path.display();
        let header = &reader.header;
        let found = [&[header.count], &header.shape[..]].concat();
        let expected = [&[count], shape].concat();
        ensure!(
            found == expected,
            "{shown}: noise has shape {found:?}, {expected:?} is needed"
        );
        ensure!(header.dtype == Dtype::F32, "{shown}: noise is not f32");
        let row: usize = shape.iter().product();
        for rows in batches(0..count, ROWS) {
            let values = rows::floats(&reader.read(rows.clone())?);
            if let Some(i) = values.iter().position(|value| !value.is_finite()) {
                let sample = rows.start + i / row;
                anyhow::bail!(
                    "{shown}: noise of sample {sample} is not finite: {}",
                    values[i]
                );
            }
        }
        Ok(Self { reader })
    }

    /// The noise of some samples.
    pub(super) fn rows(&mut self, rows: Range<usize>) -> Result<Vec<f32>> {
        Ok(rows::floats(&self.reader.read(rows)?))
    }

    /// The SHA-256 of all of it.
    pub(super) fn sha256(&mut self) -> Result<String> {
        self.reader.sha256()
    }
}
