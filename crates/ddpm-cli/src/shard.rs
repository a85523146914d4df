//! Work that several machines share without speaking to one another: each does a shard of the
//! batches and leaves a file; one of them puts the files together.
//!
//! A sample's numbers, and what is measured of an image, depend on the seed and its own number, and on
//! its place in its batch at most by rounding. Shards are of whole batches, so the set is byte for byte the one of a single machine.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::rows::{Dtype, Header, Reader, Writer};
use ddpm_files::aside;

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
    /// Its rows of `count` in batches of `batch`: whole batches, and the last one whatever is left.
    ///
    /// # Panics
    ///
    /// If `batch` is 0.
    pub fn rows(self, count: usize, batch: usize) -> Range<usize> {
        let batches = count.div_ceil(batch) as u128;
        let (index, of) = (self.index.get() as u128, self.of.get() as u128);
        let at = |shard: u128| {
            let whole = usize::try_from(batches * shard / of).unwrap_or(usize::MAX);
            whole.saturating_mul(batch).min(count)
        };
        at(index - 1)..at(index)
    }

    /// The path of its file in a folder.
    pub fn path(self, folder: &Path) -> PathBuf {
        folder.join(self.file())
    }

    fn file(self) -> String {
        format!("shard-{}-of-{}.safetensors", self.index, self.of)
    }
}

/// Whether a file's name is one that a shard has, or has while it is written.
pub(crate) fn is_shard(name: &str) -> bool {
    let name = name.trim_start_matches('.');
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    name.starts_with("shard-") && name.ends_with(".safetensors")
}

/// The entry of a shard's metadata that says what it is.
const ABOUT: &str = "ddpm";

/// The name of its tensor.
const ROWS: &str = "rows";

/// What makes shards parts of one set and no other, by name.
pub type Provenance = BTreeMap<String, String>;

/// A set of rows that shards are parts of.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// The type of their numbers.
    pub dtype: Dtype,
    /// Shape of a row.
    pub shape: Vec<usize>,
    /// Rows of all shards together.
    pub count: usize,
    /// Rows of a batch.
    pub batch: usize,
    /// What else the rows depend on.
    pub provenance: Provenance,
}

/// What a shard's file says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    shard: Shard,
    count: usize,
    batch: NonZeroUsize,
    provenance: Provenance,
    /// Of the rows.
    sha256: String,
}

impl About {
    fn of(header: &Header) -> Result<Self> {
        let about = header.about.as_ref().and_then(|map| map.get(ABOUT));
        Ok(serde_json::from_str(about.context("is not a shard")?)?)
    }

    fn metadata(&self) -> Result<Option<HashMap<String, String>>> {
        let text = serde_json::to_string(self)?;
        Ok(Some(HashMap::from([(ABOUT.to_owned(), text)])))
    }

    /// The names and values that shards of one set have in common.
    fn entries(&self) -> Provenance {
        let numbers = [
            ("shards", self.shard.of.to_string()),
            ("num", self.count.to_string()),
            ("batch-size", self.batch.to_string()),
        ];
        let numbers = numbers.map(|(name, text)| (name.to_owned(), text));
        self.provenance.clone().into_iter().chain(numbers).collect()
    }
}

/// What differs between two orders, as `seed is 0 in HERE, 1 in THERE`; `None` if nothing does.
pub(crate) fn difference(a: (&Provenance, &str), b: (&Provenance, &str)) -> Option<String> {
    let mut keys: Vec<&String> = a.0.keys().chain(b.0.keys()).collect();
    keys.sort();
    keys.dedup();
    let differ = keys.into_iter().filter_map(|key| {
        let [x, y] =
            [a.0, b.0].map(|provenance| provenance.get(key).map_or("nothing", String::as_str));
        (x != y).then(|| format!("{key} is {x} in {}, {y} in {}", a.1, b.1))
    });
    let differ: Vec<_> = differ.collect();
    (!differ.is_empty()).then(|| differ.join("; "))
}

/// The hash of something too long to be named in a provenance.
pub fn hash(bytes: &[u8]) -> String {
    format!("SHA-256 {:x}", Sha256::digest(bytes))
}

/// A shard that is being written.
pub struct Part {
    /// `None` once it is finished.
    writer: Option<Writer>,
    about: About,
    /// Its rows of the set.
    pub rows: Range<usize>,
}

impl Part {
    /// Begins a shard of a set in `folder`, or goes on with what is there of it.
    ///
    /// # Errors
    ///
    /// If what is there is of another set, or the system refuses.
    pub fn open(folder: &Path, shard: Shard, set: &Set) -> Result<Self> {
        let rows = shard.rows(set.count, set.batch);
        let about = About {
            shard,
            count: set.count,
            batch: NonZeroUsize::new(set.batch).context("a batch has rows")?,
            provenance: set.provenance.clone(),
            // As long as the one that takes its place.
            sha256: "0".repeat(64),
        };
        let path = shard.path(folder);
        let finished = path.exists();
        let found = if finished {
            Some(Reader::open(&path, ROWS)?)
        } else {
            Reader::unfinished(&path, ROWS)?
        };
        if let Some(found) = found {
            let shown = path.display().to_string();
            let there = About::of(&found.header).with_context(|| shown.clone())?;
            let differs = difference((&there.entries(), &shown), (&about.entries(), "this order"));
            ensure!(differs.is_none(), "{}", differs.unwrap_or_default());
        }
        let header = Header {
            name: ROWS.to_owned(),
            dtype: set.dtype,
            count: rows.len(),
            shape: set.shape.clone(),
            about: about.metadata()?,
        };
        Ok(Self {
            writer: (!finished)
                .then(|| Writer::open(&path, header))
                .transpose()?,
            about,
            rows,
        })
    }

    /// Removes what is there of a shard.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn remove(folder: &Path, shard: Shard) -> Result<()> {
        let path = shard.path(folder);
        for path in [aside(&path), path] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| path.display().to_string());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether some rows of the set are there.
    pub fn has(&self, rows: &Range<usize>) -> bool {
        let written = |writer: &Writer| self.rows.start + writer.written() >= rows.end;
        self.writer.as_ref().is_none_or(written)
    }

    /// Writes rows of the set from row `first` on.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    ///
    /// # Panics
    ///
    /// If they are not rows of the shard, or rows of it before them are missing.
    pub fn write(&mut self, first: usize, bytes: &[u8]) -> Result<()> {
        let first = first - self.rows.start;
        self.writer
            .as_mut()
            .map_or(Ok(()), |writer| writer.write(first, bytes))
    }

    /// Finishes the file.
    ///
    /// # Errors
    ///
    /// If rows are missing, or the system refuses.
    pub fn finish(self) -> Result<()> {
        let Some(mut writer) = self.writer else {
            return Ok(());
        };
        let about = About {
            sha256: writer.sha256()?,
            ..self.about
        };
        writer.finish(about.metadata()?)
    }
}

/// The shards of a set, all of them there and whole.
#[derive(Debug)]
pub struct Parts {
    /// What they are parts of.
    pub set: Set,
    parts: Vec<(Range<usize>, Reader)>,
}

impl Parts {
    /// Opens the shards in `folder`.
    ///
    /// # Errors
    ///
    /// If one is missing or damaged, or they are not shards of one set.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if is_shard(&name) && !name.starts_with('.') {
                let (about, reader) = read(&path).with_context(|| path.display().to_string())?;
                ensure!(
                    name == about.shard.file(),
                    "{}: says that it is {}",
                    path.display(),
                    about.shard.file()
                );
                found.insert(about.shard, (about, reader));
            }
        }
        let shown = folder.display();
        let (_, (first, example)) = found
            .first_key_value()
            .with_context(|| format!("{shown} holds no shard"))?;
        for (other, _) in found.values() {
            let names = (first.shard.file(), other.shard.file());
            let entries = (first.entries(), other.entries());
            let differs = difference((&entries.0, &names.0), (&entries.1, &names.1));
            if let Some(differs) = differs {
                bail!("{shown} holds shards of different sets: {differs}");
            }
        }
        check_all_there(folder, first.shard.of.get(), &found)?;
        let set = Set {
            dtype: example.header.dtype,
            shape: example.header.shape.clone(),
            count: first.count,
            batch: first.batch.get(),
            provenance: first.provenance.clone(),
        };
        let mut parts = Vec::new();
        for (shard, (_, reader)) in found {
            let (rows, header) = (shard.rows(set.count, set.batch), &reader.header);
            ensure!(
                header.count == rows.len()
                    && (header.dtype, &header.shape) == (set.dtype, &set.shape),
                "{shown}: {} holds {} rows of {:?}, not {} of {:?}",
                shard.file(),
                header.count,
                header.shape,
                rows.len(),
                set.shape
            );
            parts.push((rows, reader));
        }
        Ok(Self { set, parts })
    }

    /// The bytes of some rows of the set, one after the other.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn read(&mut self, rows: Range<usize>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for (own, reader) in &mut self.parts {
            let (start, end) = (rows.start.max(own.start), rows.end.min(own.end));
            if start < end {
                bytes.extend(reader.read(start - own.start..end - own.start)?);
            }
        }
        Ok(bytes)
    }
}

fn check_all_there<T>(folder: &Path, of: usize, found: &BTreeMap<Shard, T>) -> Result<()> {
    if found.len() >= of {
        return Ok(());
    }
    let missing = (1..=of).filter(|index| found.keys().all(|shard| shard.index.get() != *index));
    // However many shards a file claims there are.
    let missing: Vec<_> = missing.map(|index| index.to_string()).take(20).collect();
    bail!(
        "{}: of {of} shards these are missing: {}",
        folder.display(),
        missing.join(", ")
    )
}

fn read(path: &Path) -> Result<(About, Reader)> {
    let mut reader = Reader::open(path, ROWS)?;
    let about = About::of(&reader.header)?;
    ensure!(
        reader.header.shape.iter().all(|&n| n > 0),
        "{ROWS} has rows of shape {:?}",
        reader.header.shape
    );
    ensure!(
        reader.sha256()? == about.sha256,
        "its SHA-256 is not the one it names"
    );
    Ok((about, reader))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_whole_batches_that_follow_one_another() {
        let counts = [1, 15, 16, 17, 100, 1000].into_iter();
        let sizes = counts.flat_map(|count| [1, 7, 16].map(|batch| (count, batch)));
        for ((count, batch), of) in sizes.flat_map(|size| (1..=7).map(move |of| (size, of))) {
            let mut next = 0;
            for index in 1..=of {
                let shard: Shard = format!("{index}/{of}").parse().unwrap();
                let rows = shard.rows(count, batch);
                assert_eq!(rows.start, next, "{index}/{of} of {count}");
                assert!(rows.end == count || rows.end.is_multiple_of(batch));
                next = rows.end;
            }
            assert_eq!(next, count);
        }
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["", "1", "0/4", "5/4", "1/0", "1/2/3", "-1/4", "a/b"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
