//! The UCI digits, embedded in the program; see `assets/README.md` for their source and licence.

use std::path::Path;

use crate::in_memory::Values;
use crate::{DataError, InMemory};

static DIGITS: &[u8] = include_bytes!("../assets/digits.bin");

/// A record is a class and 8×8 gray values in 0..=16.
const RECORD: usize = 1 + 64;

pub(crate) fn load() -> Result<InMemory, DataError> {
    let mut labels = Vec::new();
    let mut values = Vec::new();
    let (records, rest) = DIGITS.as_chunks::<RECORD>();
    if !rest.is_empty() {
        let reason = format!("{} bytes are not a multiple of {RECORD}", DIGITS.len());
        return Err(DataError::format(Path::new("digits.bin"), reason));
    }
    for record in records {
        labels.push(usize::from(record[0]));
        values.extend_from_slice(&record[1..]);
    }
    let values = Values::Bytes { values, max: 16 };
    let mut digits = InMemory::new(vec![1, 8, 8], values, Some(labels), 10);
    digits.class_names = (0..10).map(|digit| digit.to_string()).collect();
    Ok(digits)
}
