//! The header of a `.safetensors` file: the positions of the tensors.
//!
//! The format's own crate adds offsets without checking for overflow, which an untrusted file can
//! cause; here only bounded numbers are added.

use std::collections::HashMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::view::{Dtype, View};

/// What a header says of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The tensors, in their order in the file.
    pub tensors: Vec<Entry>,
    /// The file's metadata.
    pub metadata: Option<HashMap<String, String>>,
}

/// What a header says of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The type of its numbers, as the format names it: `F32`.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where its bytes are, from the end of the header on.
    pub bytes: Range<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl Header {
    /// Reads a header's JSON.
    ///
    /// # Errors
    ///
    /// If it is damaged.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let map: Map<String, Value> =
            serde_json::from_slice(json).map_err(|e| format!("the header: {e}"))?;
        let (mut tensors, mut metadata) = (Vec::new(), None);
        for (name, value) in map {
            let bad = |reason: &dyn std::fmt::Display| format!("{name}: {reason}");
            if name == "__metadata__" {
                metadata = serde_json::from_value(value).map_err(|e| bad(&e))?;
                continue;
            }
            let info: Info = serde_json::from_value(value).map_err(|e| bad(&e))?;
            let [start, end] = info.data_offsets;
            if start > end {
                return Err(bad(&format!("bytes {start}..{end} are not in the file")));
            }
            tensors.push(Entry {
                dtype: info.dtype,
                shape: info.shape,
                bytes: start..end,
                name,
            });
        }
        tensors.sort_by_key(|entry| (entry.bytes.start, entry.bytes.end));
        Ok(Self { tensors, metadata })
    }

    /// Checks that the tensors lie one after the other, from the first byte on.
    ///
    /// # Errors
    ///
    /// With the first that does not.
    pub fn check_contiguous(&self) -> Result<(), String> {
        let mut at = 0;
        for Entry { name, bytes, .. } in &self.tensors {
            if bytes.start != at {
                return Err(format!(
                    "{name} does not begin where the tensor before it ends"
                ));
            }
            at = bytes.end;
        }
        Ok(())
    }

    /// Bytes of all tensors, if they are contiguous.
    pub fn data_len(&self) -> usize {
        self.tensors.last().map_or(0, |entry| entry.bytes.end)
    }
}

/// The tensors of a file, in their order there.
///
/// # Errors
///
/// If the header is damaged, a tensor is not f32, f16 or bf16, or the tensors do not fill the file
/// exactly, one after the other.
pub fn parse(bytes: &[u8]) -> Result<Vec<(String, View)>, String> {
    let (length, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or("shorter than a header's length")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (header, data) = rest
        .split_at_checked(length)
        .ok_or("the header is longer than the file")?;
    let header = Header::parse(header)?;
    let first = bytes.len() - data.len();
    let mut tensors = Vec::new();
    for entry in &header.tensors {
        let bad = |reason: &dyn std::fmt::Display| format!("{}: {reason}", entry.name);
        let dtype = match entry.dtype.as_str() {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::Bf16,
            other => return Err(bad(&format!("{other} is not F32, F16 or BF16"))),
        };
        let Range { start, end } = entry.bytes.clone();
        if end > data.len() {
            return Err(bad(&format!("bytes {start}..{end} are not in the file")));
        }
        let view = View::contiguous(dtype, first + start..first + end, entry.shape.clone());
        let view = view.ok_or_else(|| bad(&"its shape does not match its size"))?;
        tensors.push((entry.name.clone(), view));
    }
    header.check_contiguous()?;
    if header.data_len() != data.len() {
        return Err("the file goes on after the last tensor".to_owned());
    }
    Ok(tensors)
}
