//! A folder of image files of any format, size and depth.

mod budget;
mod check;
mod decode;
mod jpeg;
mod listing;
mod names;
mod parallel;
mod reading;
mod whole;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use ddpm_files::must_exist;

use crate::in_memory::{Values, scale};
use crate::{Channels, DataError, Dataset, InMemory};
use budget::Budget;
use decode::{Pixels, Shape};
use listing::Listing;
use parallel::in_parallel;

pub use reading::Reading;

/// Height and width that a data set may have.
const SIZES: std::ops::RangeInclusive<usize> = 1..=4096;

/// Rows that are decoded into memory by one thread at a time.
const DECODED: usize = 64;

/// A folder of images whose rows are decoded when they are asked for. It keeps the names of the files, not
/// their pixels: about 50 bytes per file.
///
/// The files and classes are those of [`Source::Images`](crate::Source::Images), and so are the rows, to
/// the bit. A [`Loader`](crate::Loader) decodes them ahead of the training loop; several workers decode
/// several batches at once. Images that are decoded at the same time take at most half of the machine's
/// memory together.
///
/// ```no_run
/// use std::sync::Arc;
/// use ddpm_data::{Channels, ImageFolder, Loader, Reading};
///
/// let photos = ImageFolder::open("photos".as_ref(), [64, 64], Channels::Rgb, &mut |reading| {
///     if let Reading::Checked { done, total } = reading {
///         eprintln!("{done} of {total} files checked");
///     }
/// })?;
/// let workers = 4;
/// for batch in Loader::new(Arc::new(photos), 32, 0..32, 0, true, workers, 0)? {
///     let rows = batch?.rows;
/// }
/// # Ok::<(), ddpm_data::DataError>(())
/// ```
///
/// # The fingerprint
///
/// It is a SHA-256 of the size and channels of a row, the names of the classes, and for each file its path in
/// the folder, its length, and its first and last 4096 bytes. It does not change when the folder is moved,
/// and it takes a second or two for 100,000 files, not the reading of all pixels. It does not notice
/// a change between the first and the last 4096 bytes of a file that keeps its length. An edited
/// PNG, JPEG, WebP or GIF changes one or the other; an edited BMP or uncompressed TIFF may not. Nor
/// does it notice a decoder that gives other pixels for the same file.
///
/// [`decode`](Self::decode) keeps the fingerprint, so a run can go on with the rows in memory or without.
#[derive(Debug)]
pub struct ImageFolder {
    root: PathBuf,
    listing: Listing,
    shape: Shape,
    dims: [usize; 3],
    fingerprint: String,
    is_deep: bool,
    /// Bytes that decoding takes, of the image where it takes most.
    largest: u64,
    budget: Budget,
}

impl ImageFolder {
    /// Lists the image files of the folder `path` and reads the header of each one, on several
    /// threads. Rows are images of `size`, height and width in pixels, 1..=4096. Calls `progress`
    /// on the way, on this thread.
    ///
    /// # Errors
    ///
    /// If the folder does not exist or has no image, an image lies beside folders of images, a file
    /// cannot be read, is no image or is too large to decode, or `size` is out of its range. A file whose
    /// header is good may still be broken, which is an error of its row.
    pub fn open(
        path: &Path,
        size: [usize; 2],
        channels: Channels,
        progress: &mut dyn FnMut(Reading),
    ) -> Result<Self, DataError> {
        must_exist(path)?;
        let sides = size.map(|side| u32::try_from(side).ok().filter(|_| SIZES.contains(&side)));
        let [Some(height), Some(width)] = sides else {
            let reason = format!("image size: expected {SIZES:?} pixels, found {size:?}");
            return Err(DataError::Source(reason));
        };
        let shape = Shape {
            height,
            width,
            channels,
        };
        let listing = listing::list(path, progress)?;
        let budget = Budget::of_this_machine();
        let checked = check::check(path, &listing, shape, &budget, progress)?;
        Ok(Self {
            root: path.to_owned(),
            listing,
            shape,
            dims: [channels.count(), size[0], size[1]],
            fingerprint: checked.fingerprint,
            is_deep: checked.is_deep,
            largest: checked.largest,
            budget,
        })
    }

    /// Bytes of memory that the rows take when they are [decoded](Self::decode) into it.
    pub fn decoded_bytes(&self) -> usize {
        let value = if self.is_deep { 2 } else { 1 };
        let rows = self.len().saturating_mul(self.row_len());
        rows.saturating_mul(value)
    }

    /// Decodes all rows into memory, on all cores. Calls `progress` on the way, on this thread.
    ///
    /// # Errors
    ///
    /// If a file is broken, the first one in the order of the rows, or the rows do not fit in memory.
    pub fn decode(&self, progress: &mut dyn FnMut(Reading)) -> Result<InMemory, DataError> {
        let values = if self.is_deep {
            Values::Words(self.decode_all(Pixels::write_words, progress)?)
        } else {
            let values = self.decode_all(Pixels::write_bytes, progress)?;
            Values::Bytes {
                values,
                max: u8::MAX,
            }
        };
        let labels: Option<Vec<_>> = (0..self.len()).map(|i| self.label(i)).collect();
        let classes = self.classes().unwrap_or(0);
        let mut rows = InMemory::new(self.dims.to_vec(), values, labels, classes);
        rows.class_names.clone_from(&self.listing.class_names);
        rows.notes.clone_from(&self.listing.notes);
        rows.fingerprint = Some(self.fingerprint.clone());
        Ok(rows)
    }

    /// The values of all rows, as `write` puts them.
    fn decode_all<T: Copy + Default + Send>(
        &self,
        write: impl Fn(&Pixels, &mut [T]) + Sync,
        progress: &mut dyn FnMut(Reading),
    ) -> Result<Vec<T>, DataError> {
        let (total, row) = (self.len(), self.row_len());
        let mut values = Vec::new();
        let count = total.saturating_mul(row);
        values.try_reserve_exact(count).map_err(|_| {
            let reason = format!("{total} images of {row} values do not fit in memory");
            DataError::Source(reason)
        })?;
        values.resize(count, T::default());
        let shards = (0..).step_by(DECODED).zip(values.chunks_mut(DECODED * row));
        let decode = |(first, values): (usize, &mut [T])| {
            let rows = values.chunks_mut(row);
            let count = rows.len();
            for (i, out) in (first..).zip(rows) {
                write(&self.pixels(i)?, out);
            }
            Ok(count)
        };
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let mut done = 0;
        in_parallel(cores, shards, decode, |count| {
            done += count;
            progress(Reading::Decoded { done, total });
        })?;
        Ok(values)
    }

    /// The values of row `i`.
    fn pixels(&self, i: usize) -> Result<Pixels, DataError> {
        let path = self.listing.files.path(&self.root, i);
        let pixels = decode::decode(&path, self.shape, &self.budget)?;
        if pixels.is_deep && !self.is_deep {
            let reason = "has 16 bits per channel, and had 8 when the folder was opened";
            return Err(DataError::format(&path, reason));
        }
        Ok(pixels)
    }
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.listing.files.len()
    }

    fn shape(&self) -> &[usize] {
        &self.dims
    }

    fn write_row(&self, i: usize, row: &mut [f32]) -> Result<(), DataError> {
        // 2·257·v/65535 and 2·v/255 are the same f32, so a row does not depend on the depth of others.
        let mut words = vec![0; row.len()];
        self.pixels(i)?.write_words(&mut words);
        for (out, word) in row.iter_mut().zip(words) {
            *out = scale(word.into(), u16::MAX.into());
        }
        Ok(())
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn classes(&self) -> Option<usize> {
        let classes = self.listing.class_names.len();
        (classes > 0).then_some(classes)
    }

    fn label(&self, i: usize) -> Option<usize> {
        let ends = &self.listing.class_ends;
        (!ends.is_empty()).then(|| ends.partition_point(|end| *end <= i))
    }

    fn class_names(&self) -> &[String] {
        &self.listing.class_names
    }

    /// 65535 if any file has more than 8 bits per channel, by its header; 255 otherwise.
    fn max(&self) -> Option<u32> {
        Some(if self.is_deep {
            u16::MAX.into()
        } else {
            u8::MAX.into()
        })
    }

    /// The names of the files, and the largest image while it is decoded.
    fn bytes(&self) -> usize {
        let largest = usize::try_from(self.largest).unwrap_or(usize::MAX);
        self.listing.files.bytes().saturating_add(largest)
    }

    fn notes(&self) -> &[String] {
        &self.listing.notes
    }
}
