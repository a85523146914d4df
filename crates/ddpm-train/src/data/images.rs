//! A folder of PNG and JPEG files of any size and depth.

use std::ffi::OsStr;
use std::io::Cursor;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use image::imageops::{FilterType, resize};
use image::{DynamicImage, ImageBuffer, ImageDecoder, ImageReader, ImageResult, Limits, Rgb, Rgba};

use super::{Channels, DataError, Dataset, Values, read};

/// Memory one image may take while it is decoded and cropped: a header cannot ask for more.
const MAX_DECODED: u64 = 1 << 30;

/// Bytes that a pixel of the middle square takes beside the image: 16-bit RGBA, then RGB.
const SQUARE: u64 = 8 + 6;

/// White in 16 bits.
const WHITE: u32 = 65_535;

/// Sides a data set may be resized to.
const SIZES: std::ops::RangeInclusive<u32> = 1..=4096;

pub(super) fn load(path: &Path, size: usize, channels: Channels) -> Result<Dataset, DataError> {
    let side = u32::try_from(size)
        .ok()
        .filter(|side| SIZES.contains(side))
        .ok_or_else(|| {
            DataError::Source(format!(
                "image size: expected {SIZES:?} pixels, found {size}"
            ))
        })?;
    let (files, class_names) = list(path)?;
    let values = decode_all(&files, side, channels)?;
    let classes = class_names.len();
    let labels = (classes > 0).then(|| files.into_iter().map(|(_, class)| class).collect());
    let mut dataset = Dataset::new(vec![channels.count(), size, size], values, labels, classes);
    dataset.class_names = class_names;
    Ok(dataset)
}

/// An image file and its class.
type File = (PathBuf, usize);

/// The image files in sorted order with their class, and the classes: the names of the subfolders
/// that hold images.
fn list(path: &Path) -> Result<(Vec<File>, Vec<String>), DataError> {
    let mut files = Vec::new();
    let mut class_names = Vec::new();
    for folder in entries(path)?.iter().filter(|entry| entry.is_dir()) {
        let images = image_files(folder)?;
        if !images.is_empty() {
            files.extend(images.into_iter().map(|file| (file, class_names.len())));
            let name = folder.file_name().unwrap_or_default();
            class_names.push(name.to_string_lossy().into_owned());
        }
    }
    let loose = image_files(path)?;
    if let (Some(file), [class, ..]) = (loose.first(), class_names.as_slice()) {
        let reason = format!("expected it in a class's folder like {class}, found it beside them");
        return Err(DataError::format(file, reason));
    }
    files.extend(loose.into_iter().map(|file| (file, 0)));
    if files.is_empty() {
        let reason = "expected .png, .jpg or .jpeg files, found none";
        return Err(DataError::format(path, reason));
    }
    Ok((files, class_names))
}

/// The entries of a folder, sorted. Hidden ones are not data but traces of other programs.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |error| DataError::io(folder, error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn image_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let is_image = |path: &Path| {
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        ["png", "jpg", "jpeg"].contains(&extension.to_ascii_lowercase().as_str())
    };
    let mut files = entries(folder)?;
    files.retain(|path| path.is_file() && is_image(path));
    Ok(files)
}

/// No image yet.
const NONE: Values = Values::Bytes {
    values: Vec::new(),
    max: u8::MAX,
};

/// All images in the order of `files`, each core decoding its share. The first file that fails,
/// in that order, is the error.
fn decode_all(files: &[File], side: u32, channels: Channels) -> Result<Values, DataError> {
    let decode_share = |share: &[File]| {
        share.iter().try_fold(NONE, |all, (file, _)| {
            Ok(join(all, decode(file, side, channels)?))
        })
    };
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        let shares = files.chunks(files.len().div_ceil(cores));
        let shares: Vec<_> = shares
            .map(|s| scope.spawn(move || decode_share(s)))
            .collect();
        let shares = shares
            .into_iter()
            .map(|s| s.join().unwrap_or_else(|e| resume_unwind(e)));
        shares
            .into_iter()
            .try_fold(NONE, |all, share| Ok(join(all, share?)))
    })
}

/// One after the other; bytes stay bytes until they meet a word.
fn join(a: Values, b: Values) -> Values {
    match (a, b) {
        (Values::Bytes { mut values, max }, Values::Bytes { values: more, .. }) => {
            values.extend(more);
            Values::Bytes { values, max }
        }
        (a, b) => {
            let mut words = widen(a);
            words.extend(widen(b));
            Values::Words(words)
        }
    }
}

fn widen(values: Values) -> Vec<u16> {
    match values {
        Values::Words(values) => values,
        // 255·257 = 65535, so white stays white.
        Values::Bytes { values, .. } => values.into_iter().map(|v| u16::from(v) * 257).collect(),
        Values::Floats(_) => unreachable!("images are integers"),
    }
}

/// The channels of an image, one after the other: composited on white, the middle square resized
/// to `side`×`side`, as deep as the file. All of it is computed with 16 bits.
fn decode(file: &Path, side: u32, channels: Channels) -> Result<Values, DataError> {
    let image = open(read(file)?)
        .map_err(|e| DataError::format(file, format!("cannot be decoded: {e}")))?;
    let color = image.color();
    let is_deep = color.bytes_per_pixel() > color.channel_count();
    let square = middle_square(&image, side);
    let words: Vec<u16> = match channels {
        // Luma by the weights of Rec. 709, as `image` has them.
        Channels::Gray => DynamicImage::from(square).into_luma16().into_raw(),
        Channels::Rgb => (0..3)
            .flat_map(|c| square.pixels().map(move |p| p.0[c]))
            .collect(),
    };
    if is_deep {
        return Ok(Values::Words(words));
    }
    // The inverse of `widen`, rounded; exact for a value that was not resized.
    let byte = |word: u16| u8::try_from((u32::from(word) + 128) / 257).unwrap_or(u8::MAX);
    let values = words.into_iter().map(byte).collect();
    Ok(Values::Bytes {
        values,
        max: u8::MAX,
    })
}

/// Decodes an image within the limits, the right way up.
fn open(bytes: Vec<u8>) -> ImageResult<DynamicImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    // The decoder counts what it needs itself, but not the image it fills.
    limits.reserve(decoder.total_bytes())?;
    let (width, height) = decoder.dimensions();
    let short = u64::from(width.min(height));
    limits.reserve(SQUARE.saturating_mul(short * short))?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Crops before it converts and resizes, so that a strip of a pixel's height costs nothing.
fn middle_square(image: &DynamicImage, side: u32) -> ImageBuffer<Rgb<u16>, Vec<u16>> {
    let short = image.width().min(image.height());
    let (left, top) = ((image.width() - short) / 2, (image.height() - short) / 2);
    let square = image.crop_imm(left, top, short, short).into_rgba16();
    let mut on_white = ImageBuffer::new(short, short);
    for (out, Rgba([r, g, b, alpha])) in on_white.pixels_mut().zip(square.pixels()) {
        let alpha = u32::from(*alpha);
        let over = |c: u16| (u32::from(c) * alpha + WHITE * (WHITE - alpha) + WHITE / 2) / WHITE;
        *out = Rgb([*r, *g, *b].map(|c| u16::try_from(over(c)).unwrap_or(u16::MAX)));
    }
    if short == side {
        return on_white;
    }
    resize(&on_white, side, side, FilterType::CatmullRom)
}
