//! Training data: where rows come from, and the order they come in.
//!
//! A [`Dataset`] keeps its rows as compactly as their source did and decodes them to [−1, 1] when
//! asked. A [`Loader`] turns it into an endless, reproducible sequence of batches.

mod cifar10;
pub mod classes;
mod digits;
mod idx;
mod images;
mod loader;
mod toys;

pub use loader::{Batch, Loader, shuffled};

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::missing::{Missing, must_exist};

/// Where the rows come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The UCI digits embedded in the program: 1,797 of 1×8×8, ten classes.
    Digits,
    /// MNIST's format, raw or gzip: the folder, or the file of images.
    Idx {
        /// The folder or the file of images.
        path: PathBuf,
    },
    /// CIFAR-10's binary version: the folder of `data_batch_1.bin` to `data_batch_5.bin`, or one file
    /// of records.
    Cifar10 {
        /// The folder or the file.
        path: PathBuf,
    },
    /// A folder of PNG, JPEG, WebP, GIF (the first frame), BMP and TIFF files, at any depth. If all are in
    /// subfolders, those of the first level are the classes, in natural order of their names.
    ///
    /// Any size, 8 or 16 bits, gray, RGB, palette or transparent: each is turned as its EXIF
    /// orientation says, composited on white, and its middle part resized (Catmull and Rom's
    /// filter, on the values as stored). Rows keep 16 bits if any file has them. Other files and
    /// hidden ones are passed over and counted in [`Dataset::notes`]. A file that is not whole is an
    /// error, and so is a broken link.
    Images {
        /// The folder.
        path: PathBuf,
        /// Height and width in pixels, 1..=4096: the largest part in the middle of an image with these
        /// proportions is resized to them.
        size: [usize; 2],
        /// What every image is converted to.
        channels: Channels,
    },
    /// A spiral in the plane, standardised.
    SwissRoll {
        /// Number of points, 1..=10,000,000.
        points: usize,
        /// Their seed.
        seed: u64,
    },
    /// Two half circles in the plane, standardised.
    TwoMoons {
        /// Number of points, 1..=10,000,000.
        points: usize,
        /// Their seed.
        seed: u64,
    },
}

/// Channels of an image folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One: luma.
    Gray,
    /// Three.
    Rgb,
}

impl Channels {
    fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
        }
    }
}

/// Why data could not be loaded. Every message names the file and the numbers.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The path of the data leads nowhere.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A file or folder cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file is not what its format says.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A source is asked for what it cannot give: no point, an image without pixels.
    #[error("{0}")]
    Source(String),
    /// The loader cannot make batches.
    #[error("{0}")]
    Batches(String),
}

impl DataError {
    fn format(path: &Path, reason: impl Into<String>) -> Self {
        Self::Format {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    fn io(path: &Path, error: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}

/// Values as their source had them.
#[derive(Clone, Debug)]
enum Values {
    /// 0..=`max` for black to white.
    Bytes { values: Vec<u8>, max: u8 },
    /// 0..=65535 for black to white.
    Words(Vec<u16>),
    /// As they are.
    Floats(Vec<f32>),
}

/// Rows of equal shape, perhaps labelled.
#[derive(Clone, Debug)]
pub struct Dataset {
    shape: Vec<usize>,
    values: Values,
    labels: Option<Vec<usize>>,
    class_names: Vec<String>,
    classes: usize,
    notes: Vec<String>,
}

impl Dataset {
    fn new(shape: Vec<usize>, values: Values, labels: Option<Vec<usize>>, classes: usize) -> Self {
        Self {
            shape,
            values,
            labels,
            class_names: Vec::new(),
            classes,
            notes: Vec::new(),
        }
    }

    /// Shape of a row: `[channels, height, width]`, or `[2]` for points.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Values in a row.
    pub fn row_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        let values = match &self.values {
            Values::Bytes { values, .. } => values.len(),
            Values::Words(values) => values.len(),
            Values::Floats(values) => values.len(),
        };
        values / self.row_len()
    }

    /// Bytes of memory that the rows take.
    pub fn bytes(&self) -> usize {
        match &self.values {
            Values::Bytes { values, .. } => values.len(),
            Values::Words(values) => 2 * values.len(),
            Values::Floats(values) => 4 * values.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of classes, if the rows are labelled.
    pub fn classes(&self) -> Option<usize> {
        self.labels.as_ref().map(|_| self.classes)
    }

    /// Names of the classes, where the source has them.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Rows of each class; empty if the rows are not labelled.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes().unwrap_or(0)];
        for &label in self.labels.iter().flatten() {
            counts[label] += 1;
        }
        counts
    }

    /// What a person should know of how the rows were found, such as how many files were passed over: a
    /// line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Class of row `i`.
    pub fn label(&self, i: usize) -> Option<usize> {
        self.labels.as_ref().map(|labels| labels[i])
    }

    /// The largest value of a source of whole numbers, 255 for 8 bits: white.
    pub fn max(&self) -> Option<u32> {
        match &self.values {
            Values::Bytes { max, .. } => Some((*max).into()),
            Values::Words(_) => Some(u16::MAX.into()),
            Values::Floats(_) => None,
        }
    }

    /// The SHA-256 of shape, values and labels, by which a resumed run knows its data.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{:?} {:?}\n", self.shape, self.max()));
        match &self.values {
            Values::Bytes { values, .. } => hash.update(values),
            Values::Words(values) => values.iter().for_each(|v| hash.update(v.to_le_bytes())),
            Values::Floats(values) => values.iter().for_each(|v| hash.update(v.to_le_bytes())),
        }
        for label in self.labels.iter().flatten() {
            hash.update((*label as u64).to_le_bytes());
        }
        format!("{:x}", hash.finalize())
    }

    /// Writes row `i` in [−1, 1], mirrored left to right if `flip` (points are not).
    ///
    /// # Panics
    ///
    /// If there is no row `i`, or `out` is not a row long.
    pub fn write_row(&self, i: usize, flip: bool, out: &mut [f32]) {
        assert_eq!(out.len(), self.row_len(), "one value per place of the row");
        let row = i * out.len()..(i + 1) * out.len();
        let scale = |value: f32, max: f32| 2.0 * value / max - 1.0;
        match &self.values {
            Values::Bytes { values, max } => {
                for (out, &v) in out.iter_mut().zip(&values[row]) {
                    *out = scale(f32::from(v), f32::from(*max));
                }
            }
            Values::Words(values) => {
                for (out, &v) in out.iter_mut().zip(&values[row]) {
                    *out = scale(f32::from(v), f32::from(u16::MAX));
                }
            }
            Values::Floats(values) => out.copy_from_slice(&values[row]),
        }
        if let (true, [_, _, width]) = (flip, self.shape.as_slice()) {
            out.chunks_exact_mut(*width).for_each(<[f32]>::reverse);
        }
    }
}

impl Source {
    /// The file or folder of its rows; none of what is made here.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Idx { path } | Self::Cifar10 { path } | Self::Images { path, .. } => Some(path),
            Self::Digits | Self::SwissRoll { .. } | Self::TwoMoons { .. } => None,
        }
    }

    /// The shape of its rows, where that is known before they are loaded.
    pub fn shape(&self) -> Option<Vec<usize>> {
        match self {
            Self::Digits => Some(vec![1, 8, 8]),
            Self::Idx { .. } => None,
            Self::Cifar10 { .. } => Some(vec![3, 32, 32]),
            Self::Images { size, channels, .. } => {
                let [height, width] = *size;
                Some(vec![channels.count(), height, width])
            }
            Self::SwissRoll { .. } | Self::TwoMoons { .. } => Some(vec![2]),
        }
    }
}

/// Loads all rows of a source.
///
/// # Errors
///
/// If a file is missing, unreadable or not what its format says; nothing is skipped silently.
pub fn load(source: &Source) -> Result<Dataset, DataError> {
    if let Some(path) = source.path() {
        must_exist("data.path", path)?;
    }
    match source {
        Source::Digits => digits::load(),
        Source::Idx { path } => idx::load(path),
        Source::Cifar10 { path } => cifar10::load(path),
        Source::Images {
            path,
            size,
            channels,
        } => images::load(path, *size, *channels),
        Source::SwissRoll { points, seed } => toys::swiss_roll(*points, *seed),
        Source::TwoMoons { points, seed } => toys::two_moons(*points, *seed),
    }
}

/// Reads a whole file.
fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|error| DataError::io(path, error))
}
