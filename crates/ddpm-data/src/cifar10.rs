//! CIFAR-10's binary version: records of a class byte and 3×32×32 bytes.

use std::path::Path;

use crate::error::read;
use crate::in_memory::Values;
use crate::{DataError, InMemory};

const PIXELS: usize = 3 * 32 * 32;
const RECORD: usize = 1 + PIXELS;

/// The classes if there is no `batches.meta.txt`.
const NAMES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

/// The five training batches of a folder, or one file.
pub(crate) fn load(path: &Path) -> Result<InMemory, DataError> {
    let nested = path.join("cifar-10-batches-bin");
    let folder = if nested.is_dir() { &nested } else { path };
    let mut rows = Records::default();
    let meta = if path.is_file() {
        rows.read(path)?;
        path.with_file_name("batches.meta.txt")
    } else {
        for batch in 1..=5 {
            rows.read(&folder.join(format!("data_batch_{batch}.bin")))?;
        }
        folder.join("batches.meta.txt")
    };
    let values = Values::Bytes {
        values: rows.values,
        max: 255,
    };
    let mut cifar = InMemory::new(vec![3, 32, 32], values, Some(rows.labels), 10);
    cifar.class_names = if meta.exists() {
        class_names(&meta)?
    } else {
        NAMES.map(str::to_owned).to_vec()
    };
    Ok(cifar)
}

/// The labels and the values of records.
#[derive(Default)]
struct Records {
    labels: Vec<usize>,
    values: Vec<u8>,
}

impl Records {
    /// Adds the records of a file.
    fn read(&mut self, file: &Path) -> Result<(), DataError> {
        let bytes = read(file)?;
        let (records, rest) = bytes.as_chunks::<RECORD>();
        if records.is_empty() || !rest.is_empty() {
            let reason = format!(
                "expected records of {RECORD} bytes, found {} bytes",
                bytes.len()
            );
            return Err(DataError::format(file, reason));
        }
        for (i, record) in records.iter().enumerate() {
            if record[0] > 9 {
                let reason = format!("record {i}: expected a class of 0..=9, found {}", record[0]);
                return Err(DataError::format(file, reason));
            }
            self.labels.push(usize::from(record[0]));
            self.values.extend_from_slice(&record[1..]);
        }
        Ok(())
    }
}

fn class_names(meta: &Path) -> Result<Vec<String>, DataError> {
    let text = std::fs::read_to_string(meta).map_err(|error| DataError::io(meta, error))?;
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    if names.len() != 10 {
        let reason = format!("expected 10 class names, found {}", names.len());
        return Err(DataError::format(meta, reason));
    }
    Ok(names)
}
