//! Files of images that are not whole: each is refused by name, in every format.

use ddpm_data::{Channels, Dataset, load};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, RgbImage};

use crate::images::{encoded, folder, source};

/// Something like a photograph: smooth, with noise, and no part like another.
fn photo() -> DynamicImage {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 26) as u8
    };
    DynamicImage::from(RgbImage::from_fn(96, 80, |x, y| {
        let [x, y] = [x, y].map(|v| u8::try_from(v).unwrap());
        image::Rgb([x + noise(), y + noise(), x / 2 + y / 2 + noise()])
    }))
}

/// A progressive JPEG of eight gray blocks in a row; `image` writes none. Its scans have the first
/// coefficients and the others, each with a Huffman table of one code.
fn progressive() -> Vec<u8> {
    let segment = |marker: u8, content: &[u8]| {
        let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
        [&[0xff, marker][..], &length, content].concat()
    };
    let table = |class: u8, symbol: u8| {
        let mut content = vec![class, 1];
        content.extend([0; 15]);
        content.push(symbol);
        segment(0xc4, &content)
    };
    [
        b"\xff\xd8".to_vec(),
        segment(0xdb, &[&[0][..], &[1; 64]].concat()),
        segment(0xc2, &[8, 0, 8, 0, 64, 1, 1, 0x11, 0]),
        // The difference from the block before has no bits.
        table(0x00, 0),
        // 8 blocks end, and as many more as the three bits that follow say.
        table(0x10, 0x30),
        segment(0xda, &[1, 1, 0, 0, 0, 0]),
        vec![0],
        segment(0xda, &[1, 1, 0, 1, 63, 0]),
        b"\x0f\xff\xd9".to_vec(),
    ]
    .concat()
}

fn refused(name: &str, bytes: &[u8], what: &str) {
    let folder = folder(&[(name, bytes.to_vec())]);
    let refusal = load(&source(folder.path(), 8, Channels::Rgb)).map(|_| ());
    let refusal = refusal.expect_err(what).to_string();
    assert!(refusal.contains(name), "{what}: {refusal}");
}

fn accepted(name: &str, bytes: &[u8], what: &str) {
    let folder = folder(&[(name, bytes.to_vec())]);
    let data = load(&source(folder.path(), 8, Channels::Rgb));
    assert_eq!(data.unwrap_or_else(|e| panic!("{what}: {e}")).len(), 1);
}

fn jpeg(quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    photo().write_with_encoder(encoder).unwrap();
    bytes
}

fn gray_jpeg() -> Vec<u8> {
    encoded(&DynamicImage::from(photo().into_luma8()), ImageFormat::Jpeg)
}

/// Where a JPEG's compressed data begins.
fn scan(jpeg: &[u8]) -> usize {
    let header = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]);
    let at = header.unwrap() + 2;
    at + usize::from(u16::from_be_bytes([jpeg[at], jpeg[at + 1]]))
}

#[test]
fn no_cut_file_of_any_format_is_accepted() {
    let photo = photo();
    let mut files = vec![
        ("a.jpg", jpeg(75)),
        ("gray.jfif", gray_jpeg()),
        ("progressive.jpe", progressive()),
    ];
    for (name, format) in [
        ("a.png", ImageFormat::Png),
        ("a.gif", ImageFormat::Gif),
        ("a.webp", ImageFormat::WebP),
        ("a.bmp", ImageFormat::Bmp),
        ("a.tiff", ImageFormat::Tiff),
    ] {
        files.push((name, encoded(&photo, format)));
    }
    for (name, bytes) in files {
        accepted(name, &bytes, name);
        let length = bytes.len();
        let mut cuts: Vec<usize> = (0..20).map(|part| length * part / 20).collect();
        cuts.extend((1..=30).map(|less| length.saturating_sub(less)));
        for cut in cuts {
            refused(
                name,
                &bytes[..cut],
                &format!("{name}, {cut} bytes of {length}"),
            );
        }
    }
}

#[test]
fn a_jpeg_that_lost_data_before_its_end_marker_is_refused() {
    for (name, jpeg) in [("rgb", jpeg(75)), ("fine", jpeg(98)), ("gray", gray_jpeg())] {
        let begin = scan(&jpeg);
        for kept in [
            begin,
            begin + 1,
            usize::midpoint(begin, jpeg.len()),
            jpeg.len() - 20,
        ] {
            let cut = [&jpeg[..kept], b"\xff\xd9"].concat();
            refused("a.jpg", &cut, &format!("{name}: {kept} bytes and an end"));
        }
        let middle = usize::midpoint(begin, jpeg.len());
        let lost = [&jpeg[..middle], &jpeg[middle + 512..]].concat();
        refused("a.jpg", &lost, &format!("{name}: 512 bytes are gone"));
        let mut zeroed = jpeg.clone();
        zeroed[middle..middle + 512].fill(0);
        refused("a.jpg", &zeroed, &format!("{name}: 512 bytes are zero"));
        zeroed[begin..jpeg.len() - 2].fill(0);
        refused("a.jpg", &zeroed, &format!("{name}: all data is zero"));
    }
}

#[test]
fn what_follows_the_end_of_an_image_is_not_looked_at() {
    let tail = b"\xff\xd8 a video, for example";
    accepted("a.jpg", &[&jpeg(75)[..], tail].concat(), "JPEG");
    let png = encoded(&photo(), ImageFormat::Png);
    accepted("a.png", &[&png[..], tail].concat(), "PNG");
}

#[test]
fn a_flipped_bit_in_a_png_is_found() {
    let mut png = encoded(&photo(), ImageFormat::Png);
    let middle = png.len() / 2;
    png[middle] ^= 0x40;
    refused("a.png", &png, "a flipped bit");
}

#[test]
fn an_empty_file_and_a_page_of_html_are_refused() {
    for name in ["a.jpg", "a.webp", "a.bmp", "a.gif", "a.tif", "a.png"] {
        refused(name, b"", "nothing");
        refused(name, b"<html><body>404 Not Found</body></html>", "HTML");
    }
}
