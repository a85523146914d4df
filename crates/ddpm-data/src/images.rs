//! A folder of image files of any format, size and depth.

mod budget;
mod jpeg;
mod listing;
mod whole;

use std::io::Cursor;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use image::imageops::{FilterType, resize};
use image::{DynamicImage, ImageBuffer, ImageDecoder, ImageError, ImageReader, Limits, Rgb, Rgba};

use crate::error::read;
use crate::in_memory::Values;
use crate::{DataError, InMemory};
use budget::Budget;

/// Bytes per pixel of the middle part, in addition to the image: 16-bit RGBA, then RGB.
const MIDDLE: u64 = 8 + 6;

/// Bytes per pixel while the middle part is resized.
const RESIZING: u64 = 16;

/// The maximum number of copies of an image that a decoder holds: the image, and the coefficients
/// of a progressive JPEG.
const DECODING: u64 = 3;

/// White in 16 bits.
const WHITE: u32 = 65_535;

/// The range of a data set's height and width.
const SIZES: std::ops::RangeInclusive<usize> = 1..=4096;

/// Channels of an image folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One: luma.
    Gray,
    /// Three.
    Rgb,
}

impl Channels {
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
        }
    }
}

pub(crate) fn load(
    path: &Path,
    size: [usize; 2],
    channels: Channels,
) -> Result<InMemory, DataError> {
    let sides = size.map(|side| u32::try_from(side).ok().filter(|_| SIZES.contains(&side)));
    let [Some(height), Some(width)] = sides else {
        let reason = format!("image size: expected {SIZES:?} pixels, found {size:?}");
        return Err(DataError::Source(reason));
    };
    let listing = listing::list(path)?;
    let shape = Shape {
        height,
        width,
        channels,
    };
    let values = decode_all(&listing.files, shape)?;
    let classes = listing.class_names.len();
    let [height, width] = size;
    let shape = vec![channels.count(), height, width];
    let mut dataset = InMemory::new(shape, values, listing.labels, classes);
    dataset.class_names = listing.class_names;
    dataset.notes = listing.notes;
    Ok(dataset)
}

/// The shape to which every image is converted.
#[derive(Clone, Copy)]
struct Shape {
    height: u32,
    width: u32,
    channels: Channels,
}

/// No image yet.
const NONE: Values = Values::Bytes {
    values: Vec::new(),
    max: u8::MAX,
};

/// All images in the order of `files`. Each core decodes a share of them. The error is that of the
/// first file that fails, in this order.
fn decode_all(files: &[PathBuf], shape: Shape) -> Result<Values, DataError> {
    let budget = &Budget::of_this_machine();
    let decode_share = |share: &[PathBuf]| {
        share.iter().try_fold(NONE, |all, file| {
            Ok::<_, DataError>(join(all, decode(file, shape, budget)?))
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

/// Concatenates values; the result has 16 bits if either has.
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

/// The channels of an image, one after the other: composited on white, the middle part resized,
/// with the bit depth of the file. All computations use 16 bits.
fn decode(file: &Path, shape: Shape, budget: &Budget) -> Result<Values, DataError> {
    let bytes = read(file)?;
    let words = |image: DynamicImage| {
        let color = image.color();
        let middle = middle(&image, shape);
        let words: Vec<u16> = match shape.channels {
            // Luma with the weights of Rec. 709, as in `image`.
            Channels::Gray => DynamicImage::from(middle).into_luma16().into_raw(),
            Channels::Rgb => (0..3)
                .flat_map(|c| middle.pixels().map(move |p| p.0[c]))
                .collect(),
        };
        (words, color.bytes_per_pixel() > color.channel_count())
    };
    let (words, is_deep) =
        open(&bytes, shape, budget, words).map_err(|reason| DataError::format(file, reason))?;
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

/// Checks that an image is complete, decodes and rotates it, and applies `make` to it, within the
/// memory of the budget.
fn open<T>(
    bytes: &[u8],
    shape: Shape,
    budget: &Budget,
    make: impl FnOnce(DynamicImage) -> T,
) -> Result<T, String> {
    let said = |error: ImageError| match error {
        ImageError::Limits(_) => format!("decoding it needs more memory than {budget}"),
        error => format!("cannot be decoded: {error}"),
    };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| format!("cannot be decoded: {error}"))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(budget.limit());
    reader.limits(limits);
    let format = reader.format();
    let mut decoder = reader.into_decoder().map_err(said)?;
    let (width, height) = decoder.dimensions();
    let (_, cut) = part([width, height], shape);
    let pixels = u64::from(cut[0]) * u64::from(cut[1]);
    let resized = u64::from(cut[0]) * u64::from(shape.height);
    let image = decoder.total_bytes();
    let middle = (MIDDLE.saturating_mul(pixels)).saturating_add(RESIZING.saturating_mul(resized));
    let needed = DECODING
        .saturating_mul(image)
        .max(image.saturating_add(middle));
    let _held = budget.hold(needed).ok_or_else(|| {
        format!(
            "{width}×{height} pixels take {} to decode, and the limit is {budget}: scale it down",
            budget::Size(needed)
        )
    })?;
    whole::check(format, bytes).map_err(|reason| format!("is not whole: {reason}"))?;
    let orientation = decoder.orientation().map_err(said)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(said)?;
    image.apply_orientation(orientation);
    Ok(make(image))
}

/// The largest centred part of an image of `[width, height]` with the proportions of `shape`: its
/// left and upper edge, and its `[width, height]`.
fn part([width, height]: [u32; 2], shape: Shape) -> ([u32; 2], [u32; 2]) {
    let scaled = |n: u32, by: u32, of: u32| {
        let nearest = (u64::from(n) * u64::from(by) + u64::from(of) / 2) / u64::from(of);
        u32::try_from(nearest).unwrap_or(u32::MAX).max(1)
    };
    let is_wide =
        u64::from(width) * u64::from(shape.height) > u64::from(height) * u64::from(shape.width);
    let cut = if is_wide {
        [scaled(height, shape.width, shape.height).min(width), height]
    } else {
        [width, scaled(width, shape.height, shape.width).min(height)]
    };
    ([(width - cut[0]) / 2, (height - cut[1]) / 2], cut)
}

/// Crops before it converts and resizes, so that an image one pixel high needs little memory.
fn middle(image: &DynamicImage, shape: Shape) -> ImageBuffer<Rgb<u16>, Vec<u16>> {
    let ([left, top], [width, height]) = part([image.width(), image.height()], shape);
    let part = image.crop_imm(left, top, width, height).into_rgba16();
    let mut on_white = ImageBuffer::new(width, height);
    for (out, Rgba([r, g, b, alpha])) in on_white.pixels_mut().zip(part.pixels()) {
        let alpha = u32::from(*alpha);
        let over = |c: u16| (u32::from(c) * alpha + WHITE * (WHITE - alpha) + WHITE / 2) / WHITE;
        *out = Rgb([*r, *g, *b].map(|c| u16::try_from(over(c)).unwrap_or(u16::MAX)));
    }
    drop(part);
    if [width, height] == [shape.width, shape.height] {
        return on_white;
    }
    resize(&on_white, shape.width, shape.height, FilterType::CatmullRom)
}
