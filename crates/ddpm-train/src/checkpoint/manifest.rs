//! `manifest.json`: what a checkpoint's files should be, so that one that is not whole is known.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, copy};
use std::path::Path;

use ddpm_files::{FileError, io};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The version of the layout that this program writes and reads. Checkpoints of the time before
/// manifests have none: nothing tells a whole one from a damaged one, and they are not read.
pub const FORMAT: u32 = 1;

/// The files of every checkpoint besides its manifest. One of a run with several averages has an
/// [`average_file`] for each but the first.
pub const PARTS: [&str; 6] = [
    "config.toml",
    "ema.safetensors",
    "losses.safetensors",
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
];

/// The part that is a person's to change; a run's future depends on the others.
const CONFIGURATION: &str = "config.toml";

/// The file of the average of a decay, of one that is not a run's first.
pub fn average_file(decay: f64) -> String {
    format!("ema-{decay}.safetensors")
}

/// Whether a name is an [`average_file`].
fn is_average(name: &str) -> bool {
    let decay = name.strip_prefix("ema-");
    let decay = decay.and_then(|rest| rest.strip_suffix(".safetensors")?.parse().ok());
    decay.is_some_and(|decay| (0.0..1.0).contains(&decay) && name == average_file(decay))
}

pub(super) const NAME: &str = "manifest.json";

/// Far more than a manifest takes.
const MAX_LENGTH: u64 = 1 << 16;

/// The size and hash of each of a checkpoint's files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    files: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    size: u64,
    sha256: String,
}

/// What every version's manifest says.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Manifest {
    /// The manifest of files that are about to be written.
    pub(super) fn of(files: &[(String, Vec<u8>)]) -> Self {
        let entry = |bytes: &Vec<u8>| Entry {
            size: bytes.len() as u64,
            sha256: format!("{:x}", Sha256::digest(bytes)),
        };
        let files = files.iter();
        Self {
            format: FORMAT,
            files: files
                .map(|(name, bytes)| (name.clone(), entry(bytes)))
                .collect(),
        }
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, FileError> {
        serde_json::to_vec_pretty(self).map_err(|e| FileError::content(Path::new(NAME), e))
    }

    /// Reads a manifest's bytes: of a known format, and naming all of the [`PARTS`] and nothing else but
    /// the files of averages, so that none of its names can lead out of the checkpoint.
    ///
    /// # Errors
    ///
    /// With the reason, if it is anything else.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Version { format } = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if format != FORMAT {
            return Err(format!(
                "format {format} is not known; this program reads format {FORMAT}"
            ));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let names: Vec<_> = manifest.files.keys().map(String::as_str).collect();
        let parts = names.iter().filter(|name| !is_average(name));
        if !parts.eq(&PARTS) {
            return Err(format!("names {names:?}, not {PARTS:?}"));
        }
        Ok(manifest)
    }

    /// The manifest of a checkpoint whose files are all as it says.
    ///
    /// # Errors
    ///
    /// If it is missing, damaged or of another format, or names the first file that is missing, not
    /// a plain file, of another size or of another hash.
    pub fn verify(checkpoint: &Path) -> Result<Self, FileError> {
        let path = checkpoint.join(NAME);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && checkpoint.is_dir() => {
                let reason = "missing; the checkpoint is damaged, or older than manifests are, \
                              and cannot be verified";
                return Err(FileError::content(&path, reason));
            }
            file => file.map_err(io(&path))?,
        };
        let mut bytes = Vec::new();
        let mut file = file.take(MAX_LENGTH);
        file.read_to_end(&mut bytes).map_err(io(&path))?;
        let manifest = Self::parse(&bytes).map_err(|e| FileError::content(&path, e))?;
        for (name, entry) in &manifest.files {
            entry.verify(&checkpoint.join(name))?;
        }
        Ok(manifest)
    }

    /// Length of all files together; of files that cannot be, the largest number there is.
    pub fn bytes(&self) -> u64 {
        let sizes = self.files.values().map(|entry| entry.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// The SHA-256 of the training state: weights, averages, optimizer, remembered losses, step and
    /// data. Equal states have equal hashes, whatever their configurations say.
    ///
    /// It is the hash of what `sha256sum` prints for those files in the order of their names.
    pub fn state_hash(&self) -> String {
        let mut hash = Sha256::new();
        for (name, entry) in &self.files {
            if name != CONFIGURATION {
                hash.update(format!("{}  {name}\n", entry.sha256));
            }
        }
        format!("{:x}", hash.finalize())
    }
}

impl Entry {
    /// Whether a file is this one. Nothing is read of one whose size is another's, and what is read
    /// is never in memory as a whole.
    fn verify(&self, path: &Path) -> Result<(), FileError> {
        let content = |reason: String| Err(FileError::content(path, reason));
        let metadata = fs::symlink_metadata(path).map_err(io(path))?;
        if !metadata.is_file() {
            return content("is not a plain file".to_owned());
        }
        if metadata.len() != self.size {
            let (found, expected) = (metadata.len(), self.size);
            return content(format!("has {found} bytes, its manifest says {expected}"));
        }
        let mut hash = Sha256::new();
        let mut file = File::open(path).map_err(io(path))?;
        copy(&mut file, &mut hash).map_err(io(path))?;
        if format!("{:x}", hash.finalize()) != self.sha256 {
            return content("its SHA-256 is not the manifest's".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest of the parts and of one more file.
    fn parse(name: &str) -> Result<Manifest, String> {
        let mut files = PARTS.map(|part| (part.to_owned(), Vec::new())).to_vec();
        files.push((name.to_owned(), Vec::new()));
        Manifest::parse(&Manifest::of(&files).to_json().unwrap())
    }

    #[test]
    fn further_averages_are_named_by_their_decays_and_nothing_else() {
        for decay in [0.0, 0.5, 0.9999, 1e-7] {
            let manifest = parse(&average_file(decay)).unwrap();
            assert_eq!(manifest.files.len(), PARTS.len() + 1);
        }
        for name in [
            "ema-1.safetensors",
            "ema--0.5.safetensors",
            "ema-0.90.safetensors",
            "ema-5e-1.safetensors",
            "ema-NaN.safetensors",
            "ema-.safetensors",
            "ema-../0.5.safetensors",
            "ema-0.5.safetensors/x",
            "/ema-0.5.safetensors",
            "notes.txt",
        ] {
            let error = parse(name).unwrap_err();
            assert!(error.starts_with("names ["), "{name}: {error}");
        }
        let five = PARTS.map(|part| (part.to_owned(), Vec::new()));
        let files = Manifest::of(&five[1..]).to_json().unwrap();
        assert!(Manifest::parse(&files).is_err());
    }
}
