//! The header of a `.safetensors` file: which tensors lie where.
//!
//! The format's own crate adds offsets unchecked, so that a hostile file can make them overflow. Here
//! every offset is bounded before it is added.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::view::{Dtype, View};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
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
    let header: Map<String, Value> =
        serde_json::from_slice(header).map_err(|e| format!("the header: {e}"))?;
    let first = bytes.len() - data.len();

    let mut tensors = Vec::new();
    for (name, value) in header {
        if name == "__metadata__" {
            continue;
        }
        let bad = |reason: &dyn std::fmt::Display| format!("{name}: {reason}");
        let info: Info = serde_json::from_value(value).map_err(|e| bad(&e))?;
        let dtype = match info.dtype.as_str() {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::Bf16,
            other => return Err(bad(&format!("{other} is not F32, F16 or BF16"))),
        };
        let [start, end] = info.data_offsets;
        if start > end || end > data.len() {
            return Err(bad(&format!("bytes {start}..{end} are not in the file")));
        }
        let view = View::contiguous(dtype, first + start..first + end, info.shape);
        tensors.push((
            name.clone(),
            view.ok_or_else(|| bad(&"its shape needs another size"))?,
        ));
    }
    tensors.sort_by_key(|(_, view)| (view.bytes().start, view.bytes().end));
    let mut at = first;
    for (name, view) in &tensors {
        if view.bytes().start != at {
            return Err(format!(
                "{name} does not begin where the tensor before it ends"
            ));
        }
        at = view.bytes().end;
    }
    if at != bytes.len() {
        return Err("the file goes on after the last tensor".to_owned());
    }
    Ok(tensors)
}
