//! MNIST's IDX format, raw or gzip.
//!
//! A file is two zero bytes, a type byte (8: unsigned bytes), the number of dimensions, each
//! dimension as a big-endian u32, then the values.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::error::read;
use crate::in_memory::Values;
use crate::{DataError, InMemory};

/// The possible names of the training images, without `.gz`.
const IMAGES: [&str; 2] = ["train-images-idx3-ubyte", "train-images.idx3-ubyte"];

pub(crate) fn load(path: &Path) -> Result<InMemory, DataError> {
    let images_path = if path.is_dir() {
        find(path)?
    } else {
        path.to_owned()
    };
    let (shape, values) = decode(&images_path, 3)?;
    let (count, height, width) = (shape[0], shape[1], shape[2]);
    if count == 0 || height == 0 || width == 0 {
        let reason = format!("expected images, found {count} of {height}×{width} pixels");
        return Err(DataError::format(&images_path, reason));
    }
    let labels = match labels_path(&images_path) {
        Some(labels_path) => Some(labels(&labels_path, count)?),
        None => None,
    };
    let classes = labels.iter().flatten().max().map_or(0, |max| max + 1);
    let values = Values::Bytes { values, max: 255 };
    let mut dataset = InMemory::new(vec![1, height, width], values, labels, classes);
    // The files have no names of classes.
    dataset.class_names = (0..classes).map(|class| class.to_string()).collect();
    Ok(dataset)
}

fn find(folder: &Path) -> Result<PathBuf, DataError> {
    let names = IMAGES
        .iter()
        .flat_map(|name| [(*name).to_owned(), format!("{name}.gz")]);
    names
        .map(|name| folder.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| {
            let reason = format!(
                "expected {}, raw or .gz, found neither",
                IMAGES.join(" or ")
            );
            DataError::format(folder, reason)
        })
}

/// The file of the labels: next to the images, with `labels` and `idx1` in its name.
fn labels_path(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    if !name.contains("images") {
        return None;
    }
    let name = name.replace("images", "labels").replace("idx3", "idx1");
    let bare = name.trim_end_matches(".gz").to_owned();
    [name, format!("{bare}.gz"), bare]
        .into_iter()
        .map(|name| images.with_file_name(name))
        .find(|path| path.exists())
}

fn labels(path: &Path, images: usize) -> Result<Vec<usize>, DataError> {
    let (shape, labels) = decode(path, 1)?;
    if shape[0] != images {
        let reason = format!(
            "expected {images} labels, one per image, found {}",
            shape[0]
        );
        return Err(DataError::format(path, reason));
    }
    Ok(labels.into_iter().map(usize::from).collect())
}

/// The dimensions and values of a file, which must have `rank` dimensions.
fn decode(path: &Path, rank: usize) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let bytes = read(path)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        parse(path, MultiGzDecoder::new(bytes.as_slice()), rank)
    } else {
        parse(path, bytes.as_slice(), rank)
    }
}

fn parse(
    path: &Path,
    mut reader: impl Read,
    rank: usize,
) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let format = |reason: String| DataError::format(path, reason);
    let mut read = |most: u64| {
        // Reading at most one byte more than declared detects surplus bytes, and limits how much a
        // hostile gzip stream can unpack. The buffer grows only with the actual data.
        let mut bytes = Vec::new();
        let read = reader.by_ref().take(most).read_to_end(&mut bytes);
        read.map_err(|e| format(format!("cannot be unpacked: {e}")))
            .map(|_| bytes)
    };
    let header = read(4 + 4 * rank as u64)?;
    if let [a, b, kind, found, ..] = *header.as_slice() {
        if [a, b, kind] != [0, 0, 8] {
            let found = [a, b, kind];
            let reason = format!("expected the magic bytes [0, 0, 8] of IDX, found {found:?}");
            return Err(format(reason));
        }
        if usize::from(found) != rank {
            return Err(format(format!("expected {rank} dimensions, found {found}")));
        }
    }
    let (words, _) = header.as_chunks::<4>();
    if words.len() != 1 + rank {
        let (expected, found) = (4 + 4 * rank, header.len());
        return Err(format(format!(
            "expected a header of {expected} bytes, found {found}"
        )));
    }
    let shape: Vec<usize> = words[1..]
        .iter()
        .map(|&word| u32::from_be_bytes(word) as usize)
        .collect();
    let declared = shape
        .iter()
        .try_fold(1_usize, |product, &n| product.checked_mul(n))
        .ok_or_else(|| format(format!("dimensions {shape:?} overflow")))?;
    let values = read((declared as u64).saturating_add(1))?;
    if values.len() != declared {
        let more = if values.len() > declared {
            " or more"
        } else {
            ""
        };
        let found = values.len();
        let reason = format!("expected {declared} values for {shape:?}, found {found}{more}");
        return Err(format(reason));
    }
    Ok((shape, values))
}
