//! Checks that the file of an image is not cut.
//!
//! Decoders stop once they have all pixels, and some fill in missing ones. So this module checks
//! the end of a file; the decoder checks the rest.

use image::ImageFormat;

use super::jpeg;

/// Checks that a file of this format is not cut.
pub(super) fn check(format: Option<ImageFormat>, bytes: &[u8]) -> Result<(), String> {
    let end = || "it ends too early".to_owned();
    match format {
        Some(ImageFormat::Jpeg) => jpeg::check(bytes),
        Some(ImageFormat::Png) => png(bytes).ok_or_else(end),
        Some(ImageFormat::Gif) => gif(bytes).ok_or_else(end),
        Some(ImageFormat::WebP) => webp(bytes).ok_or_else(end),
        // Their decoders read the whole file.
        _ => Ok(()),
    }
}

/// Takes `count` bytes from the front.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// Chunks, each with a length, a kind, its data and a checksum, up to the one of kind IEND.
fn png(mut bytes: &[u8]) -> Option<()> {
    take(&mut bytes, 8)?;
    loop {
        let length = take(&mut bytes, 4)?.first_chunk()?;
        let length = u32::from_be_bytes(*length) as usize;
        let body = take(&mut bytes, length.saturating_add(4))?;
        take(&mut bytes, 4)?;
        if body.starts_with(b"IEND") {
            return Some(());
        }
    }
}

/// A header and a palette, then blocks, up to the trailer 0x3b.
fn gif(mut bytes: &[u8]) -> Option<()> {
    /// The flags contain the length of the palette.
    fn palette(bytes: &mut &[u8], flags: u8) -> Option<()> {
        let entries = if flags & 0x80 == 0 {
            0
        } else {
            2 << (flags & 7)
        };
        take(bytes, 3 * entries).map(|_| ())
    }
    let flags = take(&mut bytes, 13)?[10];
    palette(&mut bytes, flags)?;
    loop {
        match take(&mut bytes, 1)?[0] {
            0x3b => return Some(()),
            0x2c => {
                let flags = take(&mut bytes, 9)?[8];
                palette(&mut bytes, flags)?;
            }
            0x21 => {}
            _ => return None,
        }
        // A byte for the kind of the block, and parts up to an empty one.
        take(&mut bytes, 1)?;
        while let length @ 1.. = take(&mut bytes, 1)?[0] {
            take(&mut bytes, length.into())?;
        }
    }
}

/// The header contains the length of the rest.
fn webp(bytes: &[u8]) -> Option<()> {
    let length = bytes.get(4..8)?.first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    (bytes.len() - 8 >= length).then_some(())
}
