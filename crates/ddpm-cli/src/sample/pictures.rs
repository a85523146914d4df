//! A folder of samples: `images/`, which holds them and nothing else, and beside it `grid.png`,
//! `film.gif`, `samples.safetensors`, and `samples.json`, which says what they depend on.

use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;

use super::claim::{Claim, Existing, RECORD};
use super::film::Film;
use crate::picture::{Samples, png, tile};
use crate::rows::{self, Header, Reader, Writer};
use crate::shard::{Provenance, Set, difference};
use ddpm_files::{aside, write_file, write_files};

/// Samples in `grid.png`: images, and points.
const IMAGES: usize = 256;
const POINTS: usize = 10_000;

/// The tensor of `samples.safetensors`.
const TENSOR: &str = "samples";

/// The files that may be beside the images and the record.
const FILES: [&str; 3] = ["grid.png", "film.gif", "samples.safetensors"];

/// A folder that samples are written to, in batches.
pub(super) struct Folder {
    claim: Claim,
    set: Set,
    film: bool,
    /// `samples.safetensors` while it is written.
    raw: Option<Writer>,
}

impl Folder {
    /// Prepares a claimed folder for a set of samples, and records what they depend on. With `raw`
    /// their values are kept, as those of points always are.
    ///
    /// # Errors
    ///
    /// If what is there is of another set, or the system refuses.
    pub(super) fn begin(claim: Claim, set: Set, raw: bool, film: bool) -> Result<Self> {
        let out = claim.out.clone();
        let raw = raw || !is_image(&set);
        let record = record(&set, raw, film);
        let mut new = true;
        if let Some(found) = &claim.record {
            clean(&out.join("images"))?;
            if claim.existing == Existing::Resume {
                let name = out.join(RECORD).display().to_string();
                let differs = difference((found, &name), (&record, "this order"));
                ensure!(
                    differs.is_none(),
                    "--resume: {}",
                    differs.unwrap_or_default()
                );
                new = false;
            } else {
                empty(&out)?;
            }
        }
        if new {
            let json = serde_json::to_string_pretty(&record)? + "\n";
            write_file(&out.join(RECORD), json.as_bytes())?;
        }
        if is_image(&set) {
            let images = out.join("images");
            fs::create_dir_all(&images).with_context(|| images.display().to_string())?;
        }
        let mut folder = Self {
            claim,
            set,
            film,
            raw: None,
        };
        let path = folder.path(FILES[2]);
        if raw && !path.exists() {
            folder.raw = Some(Writer::open(&path, folder.header())?);
        }
        Ok(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.claim.out.join(name)
    }

    fn header(&self) -> Header {
        Header {
            name: TENSOR.to_owned(),
            dtype: self.set.dtype,
            count: self.set.count,
            shape: self.set.shape.clone(),
            about: None,
        }
    }

    /// The path of a sample's image; all names have the same length, so that they sort as numbers.
    fn image(&self, k: usize) -> PathBuf {
        let width = (self.set.count - 1).to_string().len().max(4);
        self.claim.out.join(format!("images/{k:0width$}.png"))
    }

    /// Whether all is there that is made of some rows, which are a batch.
    pub(super) fn has(&self, rows: &Range<usize>) -> bool {
        let values = self
            .raw
            .as_ref()
            .is_none_or(|raw| raw.written() >= rows.end);
        let film = rows.start > 0 || !self.film || self.path(FILES[1]).exists();
        let images = || rows.clone().all(|k| self.image(k).exists());
        values && film && (!is_image(&self.set) || images())
    }

    /// The film to be made of some rows, a batch, in so many steps.
    pub(super) fn film(&self, rows: &Range<usize>, steps: usize) -> Option<Film> {
        let path = self.path(FILES[1]);
        let wanted = self.film && rows.start == 0 && !path.exists();
        wanted.then(|| Film::new(&path, steps))
    }

    /// Writes samples from sample `first` on.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub(super) fn write(&mut self, first: usize, samples: &Samples) -> Result<()> {
        if let Some(raw) = &mut self.raw {
            raw.write(first, &rows::bytes(&samples.values))?;
        }
        let mut files = Vec::new();
        for i in 0..samples.count() {
            if let Some(image) = samples.image(i) {
                let path = self.image(first + i);
                let bytes = png(&image).with_context(|| path.display().to_string())?;
                files.push((path, bytes));
            }
        }
        write_files(&files)?;
        if is_image(&self.set) && first + samples.count() >= self.set.count.min(IMAGES) {
            self.grid()?;
        }
        Ok(())
    }

    /// Finishes what is made of all samples.
    ///
    /// # Errors
    ///
    /// If samples are missing, or the system refuses.
    pub(super) fn finish(mut self) -> Result<()> {
        if let Some(raw) = self.raw.take() {
            raw.finish(None)?;
        }
        self.grid()
    }

    /// Writes the grid, unless it is there or images that it shows are missing.
    fn grid(&self) -> Result<()> {
        let path = self.path(FILES[0]);
        if path.exists() {
            return Ok(());
        }
        let grid = if is_image(&self.set) {
            let mut images = Vec::new();
            for k in 0..self.set.count.min(IMAGES) {
                match read_image(&self.image(k))? {
                    Some(image) => images.push(image),
                    None => return Ok(()),
                }
            }
            tile(&images)
        } else {
            let mut values = Reader::open(&self.path(FILES[2]), TENSOR)?;
            let shown = self.set.count.min(POINTS);
            Samples {
                shape: self.set.shape.clone(),
                values: rows::floats(&values.read(0..shown)?),
            }
            .grid()
        };
        let bytes = png(&grid).with_context(|| path.display().to_string())?;
        Ok(write_file(&path, &bytes)?)
    }
}

/// Whether the samples are pictures.
fn is_image(set: &Set) -> bool {
    set.shape.len() == 3
}

/// What `samples.json` says.
fn record(set: &Set, raw: bool, film: bool) -> Provenance {
    let word = |wanted| if wanted { "yes" } else { "no" };
    let shape: Vec<_> = set.shape.iter().map(ToString::to_string).collect();
    let more = [
        ("num", set.count.to_string()),
        ("batch-size", set.batch.to_string()),
        ("shape", shape.join("×")),
        ("raw", word(raw).to_owned()),
        ("film", word(film).to_owned()),
    ];
    let more = more.map(|(name, text)| (name.to_owned(), text));
    set.provenance.clone().into_iter().chain(more).collect()
}

fn read_image(path: &Path) -> Result<Option<RgbImage>> {
    if !path.exists() {
        return Ok(None);
    }
    let image = image::open(path).with_context(|| path.display().to_string())?;
    Ok(Some(image.into_rgb8()))
}

/// Removes what a process that died left half written among the images.
///
/// # Errors
///
/// If there is something else than samples.
fn clean(images: &Path) -> Result<()> {
    let context = || images.display().to_string();
    let entries = match fs::read_dir(images) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(context)?,
    };
    let mut unfinished = Vec::new();
    for entry in entries {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let digits = |name: &str| {
            let number = name.strip_suffix(".png");
            let number = number.filter(|number| !number.is_empty());
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let aside = name
            .strip_prefix('.')
            .and_then(|name| name.strip_suffix(".tmp"));
        if aside.is_some_and(digits) {
            unfinished.push(path);
        } else if !digits(&name) {
            bail!(
                "{} is none of the samples: move it elsewhere",
                path.display()
            );
        }
    }
    for path in unfinished {
        fs::remove_file(&path).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Removes what samples left in a folder, but for the record, which the next one replaces: as long as
/// it is there, it is known what the folder holds.
fn empty(out: &Path) -> Result<()> {
    let images = out.join("images");
    let mut removed = Vec::new();
    for name in FILES {
        let path = out.join(name);
        removed.push((fs::remove_file(aside(&path)), path.clone()));
        removed.push((fs::remove_file(&path), path));
    }
    removed.push((fs::remove_dir_all(&images), images));
    for (outcome, path) in removed {
        match outcome {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| path.display().to_string());
            }
            _ => {}
        }
    }
    Ok(())
}
