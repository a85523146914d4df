//! Any bytes as a picture in a folder of them, of the format that its first bytes say.

#![no_main]

use std::io::Cursor;

use ddpm_fuzz::data::load;
use ddpm_data::{Channels, Source};
use image::ImageReader;
use libfuzzer_sys::fuzz_target;

/// Pixels of a picture, some MB. A few bytes may decode to as many as half of the machine's memory
/// holds, which takes longer than anything that goes wrong in it.
const MOST: u64 = 1 << 22;

/// Pixels that a picture says it has, if the decoder can tell.
fn pixels(bytes: &[u8]) -> Option<u64> {
    let reader = ImageReader::new(Cursor::new(bytes));
    let size = reader.with_guessed_format().ok()?.into_dimensions();
    size.ok()
        .map(|(width, height)| u64::from(width) * u64::from(height))
}

fuzz_target!(|bytes: &[u8]| {
    if pixels(bytes).is_some_and(|pixels| pixels > MOST) {
        return;
    }
    load(&[("picture.png", bytes)], |folder| Source::Images {
        path: folder.to_owned(),
        size: [8, 8],
        channels: Channels::Rgb,
    });
});
