//! Work that several machines share without speaking to one another: each does a shard of the
//! batches and leaves a file; one of them puts the files together.
//!
//! A sample's numbers, and what is measured of an image, depend on the seed and its own number, and on
//! its place in its batch at most by rounding. Shards are of whole batches, so the set is byte for byte the one of a single machine.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::write_file;
use crate::sample::BATCH;

/// The `index`-th of `of` shards, counted from 1 as people write it: `2/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    index: NonZeroUsize,
    of: NonZeroUsize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(index, of)| {
            let (index, of) = (index.parse().ok()?, of.parse().ok()?);
            (index <= of).then_some(Self { index, of })
        });
        numbers.ok_or_else(|| format!("{text:?} is not a shard like 1/4, 2/4, 3/4 or 4/4"))
    }
}

impl Shard {
    /// Its rows of `count`: whole batches, and the last one whatever is left.
    pub fn rows(self, count: usize) -> Range<usize> {
        let batches = count.div_ceil(BATCH) as u128;
        let (index, of) = (self.index.get() as u128, self.of.get() as u128);
        let at = |shard: u128| {
            let batch = usize::try_from(batches * shard / of).unwrap_or(usize::MAX);
            batch.saturating_mul(BATCH).min(count)
        };
        at(index - 1)..at(index)
    }

    fn file(self) -> String {
        format!("shard-{}-of-{}.safetensors", self.index, self.of)
    }
}

/// The entry of a shard's metadata that says what it is.
const ABOUT: &str = "ddpm";

/// The name of its tensor.
const ROWS: &str = "rows";

/// What a shard's file says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    shard: Shard,
    /// Rows of all shards together.
    count: usize,
    order: Order,
    /// Of the rows.
    sha256: String,
}

/// Rows of numbers: samples, or what was measured of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Their type.
    pub dtype: Dtype,
    /// Shape of a row.
    pub shape: Vec<usize>,
    /// The rows, one after the other, little-endian.
    pub bytes: Vec<u8>,
}

impl Rows {
    /// How many they are.
    pub fn count(&self) -> usize {
        let row = self.dtype.bitsize() / 8 * self.shape.iter().product::<usize>();
        self.bytes.len() / row.max(1)
    }
}

/// What makes shards parts of one set and no other, by name.
pub type Order = BTreeMap<String, String>;

/// An order from its entries.
pub fn order<const N: usize>(entries: [(&str, String); N]) -> Order {
    entries.map(|(name, text)| (name.to_owned(), text)).into()
}

/// The hash of something too long to be named in an order.
pub fn hash(bytes: &[u8]) -> String {
    format!("SHA-256 {:x}", Sha256::digest(bytes))
}

/// Writes a shard of `count` rows into `folder`.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write(
    folder: &Path,
    shard: Shard,
    count: usize,
    order: Order,
    rows: &Rows,
) -> Result<PathBuf> {
    let about = About {
        shard,
        count,
        order,
        sha256: format!("{:x}", Sha256::digest(&rows.bytes)),
    };
    let mut shape = vec![rows.count()];
    shape.extend(&rows.shape);
    let view = TensorView::new(rows.dtype, shape, &rows.bytes)?;
    let about = HashMap::from([(ABOUT.to_owned(), serde_json::to_string(&about)?)]);
    let file = safetensors::serialize([(ROWS, view)], Some(about))?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let path = folder.join(shard.file());
    write_file(&path, &file)?;
    Ok(path)
}

/// Puts the shards in `folder` together: what was asked for, and all rows.
///
/// # Errors
///
/// If one is missing or damaged, or they are not shards of one set.
pub fn merge(folder: &Path) -> Result<(Order, Rows)> {
    let mut parts = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("shard-") && name.ends_with(".safetensors") {
            let (about, rows) = read(&path).with_context(|| path.display().to_string())?;
            ensure!(
                name == about.shard.file(),
                "{}: says that it is {}",
                path.display(),
                about.shard.file()
            );
            parts.insert(about.shard, (about, rows));
        }
    }
    let shown = folder.display();
    let (_, (first, example)) = parts
        .first_key_value()
        .with_context(|| format!("{shown} holds no shard"))?;
    for (other, _) in parts.values() {
        same(first, other).with_context(|| format!("{shown} holds shards of different sets"))?;
    }
    let of = first.shard.of.get();
    if parts.len() < of {
        let missing: Vec<_> = (1..=of)
            .filter(|index| parts.keys().all(|shard| shard.index.get() != *index))
            .map(|index| index.to_string())
            // However many shards a file claims there are.
            .take(20)
            .collect();
        let missing = missing.join(", ");
        bail!("{shown}: of {of} shards these are missing: {missing}");
    }
    let mut all = Rows {
        bytes: Vec::new(),
        ..example.clone()
    };
    for (shard, (_, rows)) in &parts {
        let expected = shard.rows(first.count).len();
        ensure!(
            rows.count() == expected && (rows.dtype, &rows.shape) == (all.dtype, &all.shape),
            "{shown}: {} holds {} rows of {:?}, not {expected} of {:?}",
            shard.file(),
            rows.count(),
            rows.shape,
            all.shape
        );
        all.bytes.extend(&rows.bytes);
    }
    Ok((first.order.clone(), all))
}

/// That two shards are of one set.
fn same(a: &About, b: &About) -> Result<()> {
    let names = (a.shard.file(), b.shard.file());
    let sizes = |about: &About| (about.shard.of, about.count);
    ensure!(sizes(a) == sizes(b), "{} and {}", names.0, names.1);
    for key in a.order.keys().chain(b.order.keys()) {
        let [x, y] = [a, b].map(|about| about.order.get(key).map_or("nothing", String::as_str));
        ensure!(x == y, "{key} is {x} in {}, {y} in {}", names.0, names.1);
    }
    Ok(())
}

fn read(path: &Path) -> Result<(About, Rows)> {
    let file = fs::read(path)?;
    let (_, metadata) = SafeTensors::read_metadata(&file)?;
    let about = metadata.metadata().as_ref().and_then(|map| map.get(ABOUT));
    let about: About = serde_json::from_str(about.context("is not a shard")?)?;
    let tensors = SafeTensors::deserialize(&file)?;
    let view = tensors.tensor(ROWS)?;
    let [_, shape @ ..] = view.shape() else {
        bail!("{ROWS} has no shape");
    };
    ensure!(
        shape.iter().all(|&n| n > 0),
        "{ROWS} has shape {:?}",
        view.shape()
    );
    ensure!(
        format!("{:x}", Sha256::digest(view.data())) == about.sha256,
        "its SHA-256 is not the one it names"
    );
    let rows = Rows {
        dtype: view.dtype(),
        shape: shape.to_vec(),
        bytes: view.data().to_vec(),
    };
    Ok((about, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_whole_batches_that_follow_one_another() {
        for of in 1..=7 {
            for count in [1, 15, 16, 17, 100, 1000] {
                let mut next = 0;
                for index in 1..=of {
                    let shard: Shard = format!("{index}/{of}").parse().unwrap();
                    let rows = shard.rows(count);
                    assert_eq!(rows.start, next, "{index}/{of} of {count}");
                    assert!(rows.end == count || rows.end.is_multiple_of(BATCH));
                    next = rows.end;
                }
                assert_eq!(next, count);
            }
        }
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["", "1", "0/4", "5/4", "1/0", "1/2/3", "-1/4", "a/b"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
