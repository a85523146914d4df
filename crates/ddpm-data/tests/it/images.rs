//! Images: every kind of PNG and JPEG, and what is refused.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use ddpm_data::{Channels, Dataset, InMemory, Source, load};
use image::{DynamicImage, ImageFormat, Luma, LumaA, Rgb, Rgba};
use tempfile::TempDir;

use crate::{assert_refused, row};

/// An image whose pixels are given by (x, y).
macro_rules! picture {
    ($size:expr, $pixel:expr) => {
        DynamicImage::from(image::ImageBuffer::from_fn($size.0, $size.1, $pixel))
    };
}

pub(super) fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(super) fn png(image: &DynamicImage) -> Vec<u8> {
    encoded(image, ImageFormat::Png)
}

pub(super) fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

pub(super) fn source(path: &Path, size: usize, channels: Channels) -> Source {
    Source::Images {
        path: path.to_owned(),
        size: [size, size],
        channels,
    }
}

pub(super) fn loaded(files: &[(&str, Vec<u8>)], size: usize, channels: Channels) -> InMemory {
    load(&source(folder(files).path(), size, channels)).unwrap()
}

pub(super) fn refused(files: &[(&str, Vec<u8>)], parts: &[&str]) {
    assert_refused(&source(folder(files).path(), 2, Channels::Rgb), parts);
}

/// A rounding of f32; the images are made so that nothing else is lost.
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (x, e) in found.iter().zip(expected) {
        assert!((x - e).abs() <= tolerance, "{found:?} is not {expected:?}");
    }
}

pub(super) fn gray(value: u8) -> DynamicImage {
    picture!((2, 2), |_, _| Luma([value]))
}

#[test]
fn channels_come_one_after_the_other() {
    let image = picture!((2, 2), |x, y| Rgb([
        [0, 255][x as usize],
        [0, 255][y as usize],
        51_u8
    ]));
    let data = loaded(&[("a.png", png(&image))], 2, Channels::Rgb);
    assert_eq!(
        (data.shape(), data.len(), data.classes()),
        (&[3, 2, 2][..], 1, None)
    );
    let (red, green) = ([-1.0, 1.0, -1.0, 1.0], [-1.0, -1.0, 1.0, 1.0]);
    assert_close(&row(&data, 0), &[red, green, [-0.6; 4]].concat(), 1e-7);
}

#[test]
fn gray_is_luma_and_rgb_of_gray_is_gray() {
    let files = [
        ("gray.png", png(&gray(51))),
        (
            "red.png",
            png(&picture!((2, 2), |_, _| Rgb([255_u8, 0, 0]))),
        ),
    ];
    let data = loaded(&files, 2, Channels::Gray);
    assert_eq!(data.shape(), [1, 2, 2]);
    assert_close(&row(&data, 0), &[-0.6; 4], 1e-7);
    // Rec. 709 weighs red 0.2126; half a level of 8 bits is 1/255 here.
    assert_close(&row(&data, 1), &[2.0 * 0.2126 - 1.0; 4], 1.0 / 255.0);
    let rgb = loaded(&files, 2, Channels::Rgb);
    assert_close(&row(&rgb, 0), &[-0.6; 12], 1e-7);
}

#[test]
fn sixteen_bits_are_kept_and_lift_their_neighbours() {
    let fine = |v: u16| 2.0 * f32::from(v) / 65_535.0 - 1.0;
    // 1000 and 1001 are one level of 8 bits.
    let deep = picture!((2, 2), |x, _| Luma([[1000_u16, 1001][x as usize]]));
    let deep_rgb = picture!((2, 2), |x, _| Rgb([
        [1000_u16, 1001][x as usize],
        40_000,
        65_535
    ]));
    let files = [
        ("a.png", png(&deep)),
        ("b.png", png(&deep_rgb)),
        ("c.png", png(&gray(51))),
    ];
    let data = loaded(&files, 2, Channels::Rgb);
    let line = [fine(1000), fine(1001), fine(1000), fine(1001)];
    assert_close(&row(&data, 0), &line.repeat(3), 1e-7);
    assert_close(
        &row(&data, 1),
        &[line, [fine(40_000); 4], [1.0; 4]].concat(),
        1e-7,
    );
    assert_close(&row(&data, 2), &[-0.6; 12], 1e-7);
    // The same bytes without the deep ones beside them give the same row.
    assert_close(
        &row(&loaded(&files[2..], 2, Channels::Rgb), 0),
        &row(&data, 2),
        1e-7,
    );
}

#[test]
fn transparency_lies_on_white() {
    let image = picture!((2, 2), |x, y| Rgba([
        0_u8,
        255,
        51,
        [0, 51, 255, 102][(2 * y + x) as usize]
    ]));
    let data = loaded(&[("a.png", png(&image))], 2, Channels::Rgb);
    // c·α + 255·(1 − α) of 255, at α = 0, 1/5, 1, 2/5; 8 bits round by up to 1/255 here.
    let red = [1.0, 0.6, -1.0, 0.2];
    let blue = [1.0, 1.0 - 1.6 * 0.2, -0.6, 1.0 - 1.6 * 0.4];
    assert_close(
        &row(&data, 0),
        &[red, [1.0; 4], blue].concat(),
        1.01 / 255.0,
    );
    let gray = picture!((2, 2), |_, _| LumaA([0_u16, 13_107]));
    let data = loaded(&[("a.png", png(&gray))], 2, Channels::Gray);
    assert_close(&row(&data, 0), &[0.6; 4], 1e-4 / 3.0);
}

/// A 2×2 PNG of two bits a pixel into a palette, with a transparent entry; `image` writes none.
fn palette_png() -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(&[kind, data].concat());
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length, &kind[..], data, &crc.sum().to_be_bytes()].concat()
    };
    // Two lines of filter 0: pixels 0 1 and 2 3, from the high bits on.
    let mut lines = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut lines, &[0, 0b0001_0000, 0, 0b1011_0000]).unwrap();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &[0, 0, 0, 2, 0, 0, 0, 2, 2, 3, 0, 0, 0]),
        chunk(b"PLTE", &[255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0]),
        chunk(b"tRNS", &[255, 255, 255, 0]),
        chunk(b"IDAT", &lines.finish().unwrap()),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

#[test]
fn palettes_are_looked_up() {
    let data = loaded(&[("a.png", palette_png())], 2, Channels::Rgb);
    let (red, green, blue) = (
        [1.0, -1.0, -1.0, 1.0],
        [-1.0, 1.0, -1.0, 1.0],
        [-1.0, -1.0, 1.0, 1.0],
    );
    assert_eq!(row(&data, 0), [red, green, blue].concat());
}

#[test]
fn jpegs_are_read_under_any_of_their_names() {
    let photo = picture!((16, 16), |_, _| Rgb([200_u8, 100, 50]));
    let bytes = encoded(&photo, ImageFormat::Jpeg);
    let files = [
        ("a.jpg", bytes.clone()),
        ("b.JPEG", bytes.clone()),
        ("c.png", bytes),
    ];
    let data = loaded(&files, 4, Channels::Rgb);
    assert_eq!(data.len(), 3);
    let expected = [200.0, 100.0, 50.0]
        .map(|v| [2.0 * v / 255.0 - 1.0; 16])
        .concat();
    // JPEG itself is off by a few levels.
    assert_close(&row(&data, 2), &expected, 2.0 * 4.0 / 255.0);
}

#[test]
fn exif_orientation_is_obeyed() {
    // Left half black, right half white, and a note to turn it a quarter clockwise: black on top.
    let half = picture!((16, 16), |x, _| Luma([if x < 8 { 0_u8 } else { 255 }]));
    let jpeg = encoded(&half, ImageFormat::Jpeg);
    let mut note = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01".to_vec();
    note.extend(b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0");
    let turned = [&jpeg[..2], &note, &jpeg[2..]].concat();
    let data = loaded(&[("a.jpg", jpeg), ("b.jpg", turned)], 2, Channels::Gray);
    // The filter is wider than half the picture, so each half keeps a tenth of the other.
    assert_close(&row(&data, 0), &[-1.0, 1.0, -1.0, 1.0], 0.25);
    assert_close(&row(&data, 1), &[-1.0, -1.0, 1.0, 1.0], 0.25);
}

#[test]
fn any_size_is_brought_to_the_middle_square() {
    // A black strip with a white middle square of 40; no trace of black but by the filter.
    let wide = picture!((120, 40), |x, _| Luma([if (40..80).contains(&x) {
        255_u8
    } else {
        0
    }]));
    let tall = picture!((40, 120), |_, y| Luma([if (40..80).contains(&y) {
        255_u8
    } else {
        0
    }]));
    let small = gray(255);
    let strip = picture!((60_000, 1), |_, _| Luma([255_u8]));
    let files = [
        ("a.png", &wide),
        ("b.png", &tall),
        ("c.png", &small),
        ("d.png", &strip),
    ];
    let data = loaded(
        &files.map(|(name, image)| (name, png(image))),
        8,
        Channels::Gray,
    );
    for i in 0..4 {
        assert_eq!(row(&data, i), [1.0; 64], "{i}");
    }
}

#[test]
fn shrinking_averages() {
    // Lines of 0 and 255: a filter that only samples gives one of them, an average the middle.
    let lines = picture!((64, 64), |x, _| Luma([if x % 2 == 0 { 0_u8 } else { 255 }]));
    let data = loaded(&[("a.png", png(&lines))], 8, Channels::Gray);
    // The outer columns see an incomplete pair.
    assert_close(&row(&data, 0), &[0.0; 64], 0.05);
}

#[test]
fn folders_are_classes_and_files_are_sorted() {
    let files = [
        ("b/2.png", png(&gray(102))),
        ("b/1.png", png(&gray(51))),
        ("a/9.png", png(&gray(0))),
        ("a/.hidden.png", vec![]),
        ("notes/readme.txt", b"no class".to_vec()),
        (".cache/1.png", png(&gray(255))),
        ("license.txt", vec![]),
    ];
    let data = loaded(&files, 2, Channels::Gray);
    // A folder without an image is a class too, so that its number does not depend on what others hold.
    assert_eq!((data.len(), data.classes()), (3, Some(3)));
    assert_eq!(data.class_names(), ["a", "b", "notes"]);
    assert_eq!(
        [0, 1, 2].map(|i| data.label(i)),
        [Some(0), Some(1), Some(1)]
    );
    assert_close(
        &[0, 1, 2].map(|i| row(&data, i)[0]),
        &[-1.0, -0.6, -0.2],
        1e-7,
    );
}

#[test]
fn many_files_keep_their_order() {
    let names: Vec<String> = (0..50).map(|i| format!("{i:02}.png")).collect();
    let files: Vec<_> = names
        .iter()
        .zip(0..)
        .map(|(n, i)| (n.as_str(), png(&gray(5 * i))))
        .collect();
    let data = loaded(&files, 2, Channels::Gray);
    let first: Vec<f32> = (0..50).map(|i| row(&data, i)[0]).collect();
    let expected: Vec<f32> = (0..50_u8)
        .map(|i| 2.0 * f32::from(5 * i) / 255.0 - 1.0)
        .collect();
    assert_eq!(first, expected);
}

#[test]
fn broken_images_are_named() {
    let good = png(&gray(9));
    refused(
        &[("a.png", good.clone()), ("bad.png", vec![])],
        &["bad.png", "decoded"],
    );
    refused(
        &[("cut.png", good[..good.len() / 2].to_vec())],
        &["cut.png"],
    );
    refused(
        &[("text.jpg", b"not a picture".to_vec())],
        &["text.jpg", "decoded"],
    );
    refused(
        &[("z.txt", good.clone())],
        &[
            "expected image files (.png,",
            "found none; passed over: 1 file: 1 .txt",
        ],
    );
    refused(
        &[("a/1.png", good.clone()), ("lost.png", good)],
        &[
            "lost.png",
            "next to folders of images such as",
            "a/1.png",
            "one folder",
        ],
    );
    assert_refused(
        &source(Path::new("/no/such/folder"), 2, Channels::Rgb),
        &["/no/such/folder"],
    );
}

#[test]
fn a_header_cannot_ask_for_the_moon() {
    // Another width and height of a good PNG, with its checksum made anew. The second would be 48 TiB.
    for (width, height) in [(1 << 30, 1 << 20), (4_000_000, 4_000_000)] {
        let mut huge = png(&picture!((2, 2), |_, _| Rgb([0_u8; 3])));
        huge[16..20].copy_from_slice(&u32::to_be_bytes(width));
        huge[20..24].copy_from_slice(&u32::to_be_bytes(height));
        let mut crc = flate2::Crc::new();
        crc.update(&huge[12..29]);
        huge[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        refused(
            &[("huge.png", huge)],
            &["huge.png", "GiB, half of this machine's memory"],
        );
    }
}

#[test]
fn impossible_sizes_are_refused() {
    let files = folder(&[("a.png", png(&gray(9)))]);
    for size in [0, 4097, usize::MAX] {
        assert_refused(
            &source(files.path(), size, Channels::Gray),
            &["size", &size.to_string()],
        );
    }
}
