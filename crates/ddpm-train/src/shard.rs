//! Work that several machines share without speaking to one another: each does a shard of the
//! batches and leaves a file; one of them puts the files together.
//!
//! A sample's numbers depend on the seed and its own number, and on its place in its batch at most by
//! rounding. Shards are of whole batches, so the set is byte for byte the one of a single machine.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::write_file;
use crate::picture::Samples;
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
    /// Its samples of `count`: whole batches, and the last one whatever is left.
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

/// What a shard's file says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    shard: Shard,
    /// What must be the same for all shards of a set, by name.
    order: BTreeMap<String, String>,
    /// Of the values.
    sha256: String,
}

/// Samples of a set, and how many all shards together have.
const COUNT: &str = "num";

/// Writes a shard's samples into `folder`; `order` is what makes them a part of the one set, and none
/// other.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write(
    folder: &Path,
    shard: Shard,
    count: usize,
    mut order: BTreeMap<String, String>,
    samples: &Samples,
) -> Result<PathBuf> {
    order.insert(COUNT.to_owned(), count.to_string());
    let bytes: Vec<u8> = samples
        .values
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let about = About {
        shard,
        order,
        sha256: format!("{:x}", Sha256::digest(&bytes)),
    };
    let mut shape = vec![samples.count()];
    shape.extend(&samples.shape);
    let view = TensorView::new(Dtype::F32, shape, &bytes)?;
    let about = HashMap::from([("ddpm".to_owned(), serde_json::to_string(&about)?)]);
    let file = safetensors::serialize([("samples", view)], Some(about))?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let path = folder.join(shard.file());
    write_file(&path, &file)?;
    Ok(path)
}

/// Puts the shards in `folder` together.
///
/// # Errors
///
/// If one is missing or damaged, or they are not shards of one set.
pub fn merge(folder: &Path) -> Result<Samples> {
    let mut parts = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("shard-") && name.ends_with(".safetensors") {
            let (about, samples) = read(&path).with_context(|| path.display().to_string())?;
            ensure!(
                name == about.shard.file(),
                "{}: says that it is {}",
                path.display(),
                about.shard.file()
            );
            parts.insert(about.shard, (about, samples));
        }
    }
    let shown = folder.display();
    let (_, (first, samples)) = parts
        .first_key_value()
        .with_context(|| format!("{shown} holds no shard"))?;
    for (other, _) in parts.values() {
        same(first, other).with_context(|| format!("{shown} holds shards of different sets"))?;
    }
    let (of, found) = (first.shard.of.get(), parts.len());
    if found < of {
        let missing: Vec<_> = (1..=of)
            .filter(|index| parts.keys().all(|shard| shard.index.get() != *index))
            .map(|index| index.to_string())
            // However many shards a file claims there are.
            .take(20)
            .collect();
        bail!(
            "{shown}: of {of} shards these are missing: {}",
            missing.join(", ")
        );
    }
    let count: usize = (first.order.get(COUNT).and_then(|count| count.parse().ok()))
        .with_context(|| format!("{shown}: {} says no number of samples", first.shard.file()))?;
    let shape = samples.shape.clone();
    let mut values = Vec::new();
    for (shard, (_, samples)) in &parts {
        let expected = shard.rows(count).len();
        ensure!(
            samples.count() == expected && samples.shape == shape,
            "{shown}: {} holds {} samples of {:?}, not {expected} of {shape:?}",
            shard.file(),
            samples.count(),
            samples.shape
        );
        values.extend(&samples.values);
    }
    Ok(Samples { shape, values })
}

/// That two shards are of one set.
fn same(a: &About, b: &About) -> Result<()> {
    let names = (a.shard.file(), b.shard.file());
    ensure!(a.shard.of == b.shard.of, "{} and {}", names.0, names.1);
    for key in a.order.keys().chain(b.order.keys()) {
        let [x, y] = [a, b].map(|about| about.order.get(key).map_or("nothing", String::as_str));
        ensure!(x == y, "{key} is {x} in {}, {y} in {}", names.0, names.1);
    }
    Ok(())
}

fn read(path: &Path) -> Result<(About, Samples)> {
    let file = fs::read(path)?;
    let (_, metadata) = SafeTensors::read_metadata(&file)?;
    let about = metadata.metadata().as_ref().and_then(|map| map.get("ddpm"));
    let about: About = serde_json::from_str(about.context("is not a shard of samples")?)?;
    let tensors = SafeTensors::deserialize(&file)?;
    let view = tensors.tensor("samples")?;
    let (words, _) = view.data().as_chunks::<4>();
    let [_, shape @ ..] = view.shape() else {
        bail!("samples has no shape");
    };
    ensure!(view.dtype() == Dtype::F32, "samples is not f32");
    ensure!(
        shape.iter().all(|&n| n > 0),
        "samples has shape {:?}",
        view.shape()
    );
    if format!("{:x}", Sha256::digest(view.data())) != about.sha256 {
        return Err(anyhow!("its SHA-256 is not the one it names"));
    }
    let samples = Samples {
        shape: shape.to_vec(),
        values: words.iter().map(|word| f32::from_le_bytes(*word)).collect(),
    };
    Ok((about, samples))
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
