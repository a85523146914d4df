//! The directory of a zip archive with uncompressed entries, as PyTorch writes it.

use std::collections::BTreeMap;
use std::ops::Range;

const END: &[u8] = b"PK\x05\x06";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
const END_LEN: usize = 22;
const ENTRY_LEN: usize = 46;
const LOCAL_LEN: usize = 30;
const MAX_COMMENT: usize = u16::MAX as usize;

/// The name of each entry and the range of its bytes.
///
/// # Errors
///
/// If the archive is damaged, compressed, or larger than 4 GiB.
pub(super) fn entries(bytes: &[u8]) -> Result<BTreeMap<&str, Range<usize>>, String> {
    let end = end(bytes).ok_or("not a zip archive, as torch.save has written since PyTorch 1.6")?;
    let count = u16_at(bytes, end + 10)?;
    let mut at = u32_at(bytes, end + 16)?;
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let name_len = u16_at(bytes, at + 28)?;
        let rest = name_len + u16_at(bytes, at + 30)? + u16_at(bytes, at + 32)?;
        expect(bytes, at, ENTRY)?;
        let name = slice(bytes, at + ENTRY_LEN, name_len)?;
        let name = std::str::from_utf8(name).map_err(|_| damaged())?;
        let (method, size) = (u16_at(bytes, at + 10)?, u32_at(bytes, at + 24)?);
        if method != 0 {
            return Err(format!(
                "{name} is compressed, which torch.save does not do"
            ));
        }
        let data = data(bytes, u32_at(bytes, at + 42)?, size)?;
        if entries.insert(name, data).is_some() {
            return Err(format!("two entries are called {name}"));
        }
        at += ENTRY_LEN + rest;
    }
    Ok(entries)
}

/// The position of the end record: before a comment that extends to the end of the file.
fn end(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(END_LEN)?;
    let first = last.saturating_sub(MAX_COMMENT);
    (first..=last)
        .rev()
        .find(|&at| bytes[at..].starts_with(END) && u16_at(bytes, at + 20) == Ok(last - at))
}

/// An entry's bytes, which follow its local header.
fn data(bytes: &[u8], at: usize, size: usize) -> Result<Range<usize>, String> {
    expect(bytes, at, LOCAL)?;
    let start = at + LOCAL_LEN + u16_at(bytes, at + 26)? + u16_at(bytes, at + 28)?;
    slice(bytes, start, size)?;
    Ok(start..start + size)
}

// Offsets are sums of a few numbers of at most 32 bits; on the 64-bit targets of Burn's backends
// they do not overflow, and on others `slice` refuses wrapped values.
fn slice(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], String> {
    let end = at.checked_add(len).ok_or_else(damaged)?;
    bytes.get(at..end).ok_or_else(damaged)
}

fn expect(bytes: &[u8], at: usize, signature: &[u8]) -> Result<(), String> {
    if slice(bytes, at, signature.len())? == signature {
        return Ok(());
    }
    Err(damaged())
}

fn u16_at(bytes: &[u8], at: usize) -> Result<usize, String> {
    let bytes = slice(bytes, at, 2)?;
    Ok(usize::from(bytes[0]) | usize::from(bytes[1]) << 8)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<usize, String> {
    Ok(u16_at(bytes, at)? | u16_at(bytes, at + 2)? << 16)
}

fn damaged() -> String {
    "the zip archive is damaged".to_owned()
}
