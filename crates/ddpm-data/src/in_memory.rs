//! A data set whose rows are all in memory.

use sha2::{Digest, Sha256};

use crate::{DataError, Dataset};

/// Values as in their source.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// 0..=`max` for black to white.
    Bytes { values: Vec<u8>, max: u8 },
    /// 0..=65535 for black to white.
    Words(Vec<u16>),
    /// Unscaled.
    Floats(Vec<f32>),
}

/// Rows that are all in memory, stored as compactly as in their source.
///
/// ```
/// use ddpm_data::{Dataset, InMemory};
///
/// let points = InMemory::floats(&[2], vec![0.0, 1.0, 2.0, 3.0])?.with_labels(vec![0, 1], 2)?;
/// assert_eq!((points.len(), points.label(1)), (2, Some(1)));
/// # Ok::<(), ddpm_data::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct InMemory {
    shape: Vec<usize>,
    values: Values,
    labels: Option<Vec<usize>>,
    pub(crate) class_names: Vec<String>,
    classes: usize,
    pub(crate) notes: Vec<String>,
    /// What identifies rows of files; otherwise the values do.
    pub(crate) fingerprint: Option<String>,
}

impl InMemory {
    /// Rows of `shape` that are used unscaled.
    ///
    /// # Errors
    ///
    /// If a row is empty, or the number of values is not a multiple of the row's length.
    pub fn floats(shape: &[usize], values: Vec<f32>) -> Result<Self, DataError> {
        check_rows(shape, values.len())?;
        Ok(Self::new(shape.to_vec(), Values::Floats(values), None, 0))
    }

    /// Rows of `shape` of 8 bits, 0 for black (−1) and 255 for white (1).
    ///
    /// # Errors
    ///
    /// As [`floats`](Self::floats).
    pub fn bytes(shape: &[usize], values: Vec<u8>) -> Result<Self, DataError> {
        check_rows(shape, values.len())?;
        let values = Values::Bytes { values, max: 255 };
        Ok(Self::new(shape.to_vec(), values, None, 0))
    }

    /// The same rows with one class each, in 0..`classes`.
    ///
    /// # Errors
    ///
    /// If there are more or fewer labels than rows, or a label is not below `classes`.
    pub fn with_labels(mut self, labels: Vec<usize>, classes: usize) -> Result<Self, DataError> {
        if labels.len() != self.len() {
            let reason = format!("{} labels for {} rows", labels.len(), self.len());
            return Err(DataError::Source(reason));
        }
        if let Some(label) = labels.iter().find(|label| **label >= classes) {
            let reason = format!("label {label}, but there are {classes} classes, from 0");
            return Err(DataError::Source(reason));
        }
        (self.labels, self.classes) = (Some(labels), classes);
        Ok(self)
    }

    pub(crate) fn new(
        shape: Vec<usize>,
        values: Values,
        labels: Option<Vec<usize>>,
        classes: usize,
    ) -> Self {
        Self {
            shape,
            values,
            labels,
            class_names: Vec::new(),
            classes,
            notes: Vec::new(),
            fingerprint: None,
        }
    }
}

/// Checks that the number of values is a multiple of the length of a row of `shape`.
fn check_rows(shape: &[usize], values: usize) -> Result<(), DataError> {
    let row = shape
        .iter()
        .try_fold(1_usize, |n, &size| n.checked_mul(size));
    match row {
        Some(row) if row > 0 && values.is_multiple_of(row) => Ok(()),
        _ => {
            let reason = format!("{values} values are not whole rows of shape {shape:?}");
            Err(DataError::Source(reason))
        }
    }
}

/// From 0..=`max` to −1..=1.
pub(crate) fn scale(value: f32, max: f32) -> f32 {
    2.0 * value / max - 1.0
}

impl Dataset for InMemory {
    fn len(&self) -> usize {
        let values = match &self.values {
            Values::Bytes { values, .. } => values.len(),
            Values::Words(values) => values.len(),
            Values::Floats(values) => values.len(),
        };
        values / self.row_len()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn bytes(&self) -> usize {
        match &self.values {
            Values::Bytes { values, .. } => values.len(),
            Values::Words(values) => 2 * values.len(),
            Values::Floats(values) => 4 * values.len(),
        }
    }

    fn classes(&self) -> Option<usize> {
        self.labels.as_ref().map(|_| self.classes)
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.labels.as_ref().map(|labels| labels[i])
    }

    fn max(&self) -> Option<u32> {
        match &self.values {
            Values::Bytes { max, .. } => Some((*max).into()),
            Values::Words(_) => Some(u16::MAX.into()),
            Values::Floats(_) => None,
        }
    }

    /// The SHA-256 of shape, values and labels; of a folder of images, the one of
    /// [`ImageFolder`](crate::ImageFolder).
    fn fingerprint(&self) -> String {
        if let Some(fingerprint) = &self.fingerprint {
            return fingerprint.clone();
        }
        let mut hash = Sha256::new();
        hash.update(format!("{:?} {:?}\n", self.shape, self.max()));
        match &self.values {
            Values::Bytes { values, .. } => hash.update(values),
            Values::Words(values) => values.iter().for_each(|v| hash.update(v.to_le_bytes())),
            Values::Floats(values) => values.iter().for_each(|v| hash.update(v.to_le_bytes())),
        }
        for label in self.labels.iter().flatten() {
            hash.update((*label as u64).to_le_bytes());
        }
        format!("{:x}", hash.finalize())
    }

    fn write_row(&self, i: usize, out: &mut [f32]) -> Result<(), DataError> {
        let row = i * out.len()..(i + 1) * out.len();
        match &self.values {
            Values::Bytes { values, max } => {
                for (out, &v) in out.iter_mut().zip(&values[row]) {
                    *out = scale(f32::from(v), f32::from(*max));
                }
            }
            Values::Words(values) => {
                for (out, &v) in out.iter_mut().zip(&values[row]) {
                    *out = scale(f32::from(v), f32::from(u16::MAX));
                }
            }
            Values::Floats(values) => out.copy_from_slice(&values[row]),
        }
        Ok(())
    }
}
