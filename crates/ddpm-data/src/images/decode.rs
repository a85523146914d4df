//! From the bytes of an image file to the values of a row.

use std::io::Cursor;
use std::path::Path;

use image::imageops::{FilterType, resize};
use image::{
    DynamicImage, ImageBuffer, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb,
    Rgba,
};

use super::budget::{Budget, Size};
use super::whole;
use crate::error::read;
use crate::{Channels, DataError};

/// Bytes that a pixel of the middle part takes beside the image: 16-bit RGBA, then RGB.
const MIDDLE: u64 = 8 + 6;

/// Bytes that a pixel takes while the middle part is resized.
const RESIZING: u64 = 16;

/// Copies of an image that a decoder holds at most: itself, and a progressive JPEG's coefficients.
const DECODING: u64 = 3;

/// White in 16 bits.
const WHITE: u32 = 65_535;

/// What every image becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) height: u32,
    pub(super) width: u32,
    pub(super) channels: Channels,
}

/// The values of a row as a file has them.
pub(super) struct Pixels {
    /// In 16 bits, also where the file has 8.
    words: Vec<u16>,
    /// Whether the file has more than 8 bits per channel.
    pub(super) is_deep: bool,
}

impl Pixels {
    /// Writes the values in 8 bits.
    pub(super) fn write_bytes(&self, row: &mut [u8]) {
        // The inverse of widening, rounded; exact for a value that was not resized.
        let byte = |word: u16| u8::try_from((u32::from(word) + 128) / 257).unwrap_or(u8::MAX);
        for (out, &word) in row.iter_mut().zip(&self.words) {
            *out = byte(word);
        }
    }

    /// Writes the values in 16 bits. Those of a file of 8 bits are rounded to 8 bits first, so that
    /// they do not depend on the files beside it.
    pub(super) fn write_words(&self, row: &mut [u16]) {
        if self.is_deep {
            return row.copy_from_slice(&self.words);
        }
        let mut bytes = vec![0; row.len()];
        self.write_bytes(&mut bytes);
        for (out, byte) in row.iter_mut().zip(bytes) {
            // 255·257 = 65535, so white stays white.
            *out = u16::from(byte) * 257;
        }
    }
}

/// The channels of an image, one after the other: composited on white, the middle part resized. All of it
/// is computed with 16 bits.
pub(super) fn decode(file: &Path, shape: Shape, budget: &Budget) -> Result<Pixels, DataError> {
    let bytes = read(file)?;
    open(&bytes, shape, budget).map_err(|reason| DataError::format(file, reason))
}

/// What the first bytes of an image tell.
pub(super) struct Header<D> {
    decoder: D,
    format: Option<ImageFormat>,
    /// Width and height.
    size: (u32, u32),
    /// Bytes of memory that decoding takes.
    pub(super) needed: u64,
    /// Whether the file has more than 8 bits per channel.
    pub(super) is_deep: bool,
}

/// Reads the header of an image from the beginning of its file, or from all of it.
pub(super) fn header(
    bytes: &[u8],
    shape: Shape,
    budget: &Budget,
) -> Result<Header<impl ImageDecoder>, String> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| format!("cannot be decoded: {error}"))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(budget.limit());
    reader.limits(limits);
    let format = reader.format();
    let decoder = reader.into_decoder().map_err(|e| said(e, budget))?;
    let size @ (width, height) = decoder.dimensions();
    let (_, cut) = part([width, height], shape);
    let pixels = u64::from(cut[0]) * u64::from(cut[1]);
    let resized = u64::from(cut[0]) * u64::from(shape.height);
    let image = decoder.total_bytes();
    let middle = (MIDDLE.saturating_mul(pixels)).saturating_add(RESIZING.saturating_mul(resized));
    let color = decoder.color_type();
    Ok(Header {
        format,
        size,
        needed: DECODING
            .saturating_mul(image)
            .max(image.saturating_add(middle)),
        is_deep: color.bytes_per_pixel() > color.channel_count(),
        decoder,
    })
}

impl<D> Header<D> {
    /// That the image can be decoded within the budget.
    pub(super) fn check(&self, budget: &Budget) -> Result<(), String> {
        if self.needed <= budget.limit() {
            return Ok(());
        }
        let (width, height) = self.size;
        let needed = Size(self.needed);
        Err(format!(
            "{width}×{height} pixels take {needed} to decode, and the limit is {budget}: scale it down"
        ))
    }
}

/// What is wrong with an image, in words.
fn said(error: ImageError, budget: &Budget) -> String {
    match error {
        ImageError::Limits(_) => format!("more memory than {budget} is needed to decode it"),
        error => format!("cannot be decoded: {error}"),
    }
}

/// Decodes an image that is whole and turns it the right way up, all of it with memory of the budget.
fn open(bytes: &[u8], shape: Shape, budget: &Budget) -> Result<Pixels, String> {
    let header = header(bytes, shape, budget)?;
    header.check(budget)?;
    let _held = budget.hold(header.needed);
    whole::check(header.format, bytes).map_err(|reason| format!("is not whole: {reason}"))?;
    let mut decoder = header.decoder;
    let orientation = decoder.orientation().map_err(|e| said(e, budget))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| said(e, budget))?;
    image.apply_orientation(orientation);
    let middle = middle(&image, shape);
    let words = match shape.channels {
        // Luma by the weights of Rec. 709, as `image` has them.
        Channels::Gray => DynamicImage::from(middle).into_luma16().into_raw(),
        Channels::Rgb => (0..3)
            .flat_map(|c| middle.pixels().map(move |p| p.0[c]))
            .collect(),
    };
    Ok(Pixels {
        words,
        is_deep: header.is_deep,
    })
}

/// The largest part of an image of `[width, height]` in its middle that has the proportions of `shape`:
/// its left and upper edge, and its own `[width, height]`.
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

/// Crops before it converts and resizes, so that a strip of a pixel's height costs nothing.
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
