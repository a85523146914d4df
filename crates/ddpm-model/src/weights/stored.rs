//! The tensors of one or several files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ddpm_files::{FileError, io};

use super::safetensors;
use super::view::View;

/// The start of a Git LFS pointer, which replaces a file that was not fetched.
const GIT_LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Tensors by their names, in the bytes of the files that hold them.
pub struct Weights {
    path: PathBuf,
    files: Vec<Vec<u8>>,
    tensors: BTreeMap<String, (usize, View)>,
}

impl Weights {
    /// The tensors of a `.safetensors` file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is damaged.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = read_file(path)?;
        let bad = |reason: String| FileError::content(path, reason);
        let tensors = safetensors::parse(&bytes).map_err(bad)?;
        let mut weights = Self::new(path.to_owned());
        weights.add(bytes, tensors).map_err(bad)?;
        Ok(weights)
    }

    /// No tensors yet; errors will name `path`.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            files: Vec::new(),
            tensors: BTreeMap::new(),
        }
    }

    /// Adds the tensors of a file with these bytes.
    ///
    /// # Errors
    ///
    /// If two tensors have the same name.
    pub fn add(&mut self, bytes: Vec<u8>, tensors: Vec<(String, View)>) -> Result<(), String> {
        let file = self.files.len();
        self.files.push(bytes);
        for (name, view) in tensors {
            if self.tensors.insert(name.clone(), (file, view)).is_some() {
                return Err(format!("two tensors are called {name}"));
            }
        }
        Ok(())
    }

    /// The file, or the index of the files.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Names and shapes, in the order of names.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, (_, view))| (name.as_str(), view.shape()))
    }

    /// The shape of a tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(self.tensors.get(name)?.1.shape())
    }

    /// A tensor's values, last index fastest.
    pub fn values(&self, name: &str) -> Option<Vec<f32>> {
        let (file, view) = self.tensors.get(name)?;
        Some(view.values(self.files.get(*file)?))
    }
}

/// The tensor `name` of a `.safetensors` file: shape and values.
///
/// # Errors
///
/// If the file cannot be read, is damaged or lacks the tensor.
pub fn read_tensor(path: &Path, name: &str) -> Result<(Vec<usize>, Vec<f32>), FileError> {
    let weights = Weights::read(path)?;
    let tensor = weights.shape(name).zip(weights.values(name));
    let (shape, values) =
        tensor.ok_or_else(|| FileError::content(path, format!("holds no tensor {name}")))?;
    Ok((shape.to_vec(), values))
}

/// Reads a regular file up to its current length.
///
/// # Errors
///
/// If it is not a regular file, the system refuses, or the file is a Git LFS pointer.
pub fn read_file(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(io(path))?;
    let metadata = file.metadata().map_err(io(path))?;
    if !metadata.is_file() {
        return Err(FileError::content(path, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(metadata.len())
        .read_to_end(&mut bytes)
        .map_err(io(path))?;
    if bytes.starts_with(GIT_LFS) {
        let reason = "is a Git LFS pointer, not the file itself; `git lfs pull` in its folder \
                      fetches that";
        return Err(FileError::content(path, reason));
    }
    Ok(bytes)
}
