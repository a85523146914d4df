//! The built-in sources of data.

use std::path::{Path, PathBuf};

use ddpm_files::must_exist;

use crate::channels::Channels;
use crate::{DataError, ImageFolder, InMemory, cifar10, digits, idx, toys};

/// The source of the rows.
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
    /// Images may have any size, 8 or 16 bits, and be gray, RGB, palette or transparent. Each is
    /// rotated by its EXIF orientation, composited on white, and its middle part is resized
    /// (Catmull and Rom's filter, on the values as stored). Rows keep 16 bits if any file has them.
    /// Other files and hidden ones are passed over and counted in the [notes](crate::Dataset::notes). A damaged
    /// file is an error, and so is a broken link.
    Images {
        /// The folder.
        path: PathBuf,
        /// Height and width in pixels, 1..=4096. The largest centred part of an image with these
        /// proportions is resized to them.
        size: [usize; 2],
        /// The channels to which every image is converted.
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

impl Source {
    /// The file or folder of its rows; `None` for data that is generated or embedded.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Idx { path } | Self::Cifar10 { path } | Self::Images { path, .. } => Some(path),
            Self::Digits | Self::SwissRoll { .. } | Self::TwoMoons { .. } => None,
        }
    }

    /// The shape of its rows, if it is known before they are loaded.
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

/// Loads all rows of a source into memory. [`ImageFolder`] reads images without that.
///
/// # Errors
///
/// If a file is missing, unreadable or does not match its format; nothing is skipped silently.
pub fn load(source: &Source) -> Result<InMemory, DataError> {
    if let Some(path) = source.path() {
        must_exist(path)?;
    }
    match source {
        Source::Digits => digits::load(),
        Source::Idx { path } => idx::load(path),
        Source::Cifar10 { path } => cifar10::load(path),
        Source::Images {
            path,
            size,
            channels,
        } => ImageFolder::open(path, *size, *channels, &mut |_| ())?.decode(&mut |_| ()),
        Source::SwissRoll { points, seed } => toys::swiss_roll(*points, *seed),
        Source::TwoMoons { points, seed } => toys::two_moons(*points, *seed),
    }
}
