//! `--init-noise`: standard normal noise from a file, read batch by batch.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::drawing::{Given, batches};
use crate::rows::{self, Dtype, Reader};

/// Rows that are looked at together.
const ROWS: usize = 1024;

/// The tensors `noise` and, if it is there, `z` of a safetensors file.
pub(super) struct InitNoise {
    /// Where samples start, `[N, …]`.
    start: Reader,
    /// The noise of their steps, `[draws, N, …]`, as draws·N rows.
    steps: Option<Reader>,
    /// N.
    count: usize,
    draws: usize,
}

impl InitNoise {
    /// Opens a file that must hold the noise of so many samples of a shape, and, if it holds that
    /// of steps, of so many draws.
    ///
    /// # Errors
    ///
    /// If it does not, or a number of it is not finite.
    pub(super) fn open(path: &Path, count: usize, shape: &[usize], draws: usize) -> Result<Self> {
        let mut start = Reader::open(path, "noise")?;
        check(&mut start, path, &[&[count], shape].concat())?;
        let steps = if Reader::has(path, "z")? {
            let reader = Reader::open(path, "z")?;
            let found = reader.header.count;
            ensure!(
                found == draws,
                "{}: z holds {found} draws of noise, and the sampler makes {draws} in these steps",
                path.display()
            );
            let expected = [&[draws, count], shape].concat();
            let mut reader = reader;
            check_shape(&reader, path, &expected)?;
            reader = reader.flattened()?;
            check_finite(&mut reader, path)?;
            Some(reader)
        } else {
            None
        };
        Ok(Self {
            start,
            steps,
            count,
            draws,
        })
    }

    /// Whether the file also holds the noise of the steps.
    pub(super) fn is_of_steps(&self) -> bool {
        self.steps.is_some()
    }

    /// The noise of some samples.
    pub(super) fn rows(&mut self, rows: Range<usize>) -> Result<Given> {
        let start = rows::floats(&self.start.read(rows.clone())?);
        let (count, draws) = (self.count, self.draws);
        let of_steps = |reader: &mut Reader| {
            let mut of_draw = |draw: usize| {
                let first = draw * count;
                let bytes = reader.read(first + rows.start..first + rows.end)?;
                Ok(rows::floats(&bytes))
            };
            (0..draws).map(&mut of_draw).collect::<Result<Vec<_>>>()
        };
        Ok(Given {
            start: Some(start),
            steps: self.steps.as_mut().map(of_steps).transpose()?,
        })
    }

    /// The SHA-256 of all of it.
    pub(super) fn sha256(&mut self) -> Result<String> {
        let start = self.start.sha256()?;
        Ok(match &mut self.steps {
            Some(steps) => format!("{start}, z {}", steps.sha256()?),
            None => start,
        })
    }
}

fn check(reader: &mut Reader, path: &Path, expected: &[usize]) -> Result<()> {
    check_shape(reader, path, expected)?;
    check_finite(reader, path)
}

/// Whether the tensor has this shape, and is of f32.
fn check_shape(reader: &Reader, path: &Path, expected: &[usize]) -> Result<()> {
    let (header, shown) = (&reader.header, path.display());
    let found = [&[header.count], &header.shape[..]].concat();
    let name = &header.name;
    ensure!(
        found == expected,
        "{shown}: {name} has shape {found:?}, {expected:?} is needed"
    );
    ensure!(header.dtype == Dtype::F32, "{shown}: {name} is not f32");
    Ok(())
}

/// Whether all numbers are finite.
fn check_finite(reader: &mut Reader, path: &Path) -> Result<()> {
    let row: usize = reader.header.shape.iter().product();
    let name = reader.header.name.clone();
    for rows in batches(0..reader.header.count, ROWS) {
        let values = rows::floats(&reader.read(rows.clone())?);
        if let Some(i) = values.iter().position(|value| !value.is_finite()) {
            let (shown, sample) = (path.display(), rows.start + i / row);
            anyhow::bail!(
                "{shown}: {name} of sample {sample} is not finite: {}",
                values[i]
            );
        }
    }
    Ok(())
}
