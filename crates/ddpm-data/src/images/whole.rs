//! Whether the file of an image has its end.
//!
//! Decoders stop where they have all pixels, and some fill in those that are missing. What a file must
//! end with is therefore looked at here, and what is in between is the decoder's.

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
        // All that these have is read by their decoders.
        _ => Ok(()),
    }
}

/// Takes so many bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// Chunks of a length, a kind, so many bytes and a checksum, up to the one of kind IEND.
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
    /// A palette is as long as the flags say.
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
        // A byte that says what follows, and parts up to an empty one.
        take(&mut bytes, 1)?;
        while let length @ 1.. = take(&mut bytes, 1)?[0] {
            take(&mut bytes, length.into())?;
        }
    }
}

/// The header has the length of what follows it.
fn webp(bytes: &[u8]) -> Option<()> {
    let length = bytes.get(4..8)?.first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    (bytes.len() - 8 >= length).then_some(())
}
