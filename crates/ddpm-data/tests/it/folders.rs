//! Folders of images as people have them: nested, of mixed formats, with links and other files.

use std::fs;

use ddpm_data::{Channels, Dataset, Source, load};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use crate::images::{encoded, folder, gray, loaded, png, refused, source};
use crate::{assert_refused, row};

/// All formats, of one color each; JPEG and a lossy palette may be off by some levels.
#[test]
fn every_format_is_read_under_all_of_its_names() {
    let photo = DynamicImage::from(RgbImage::from_pixel(16, 16, Rgb([200, 100, 50])));
    let files: Vec<_> = [
        ("a.png", ImageFormat::Png),
        ("b.jpg", ImageFormat::Jpeg),
        ("c.jpeg", ImageFormat::Jpeg),
        ("d.JPE", ImageFormat::Jpeg),
        ("e.jfif", ImageFormat::Jpeg),
        ("f.webp", ImageFormat::WebP),
        ("g.bmp", ImageFormat::Bmp),
        ("h.GIF", ImageFormat::Gif),
        ("i.tif", ImageFormat::Tiff),
        ("j.tiff", ImageFormat::Tiff),
    ]
    .map(|(name, format)| (name, encoded(&photo, format)))
    .into();
    let data = loaded(&files, 2, Channels::Rgb);
    assert_eq!((data.len(), data.classes()), (10, None));
    assert!(data.notes().is_empty(), "{:?}", data.notes());
    let expected = [200.0, 100.0, 50.0]
        .map(|v: f32| [2.0 * v / 255.0 - 1.0; 4])
        .concat();
    for i in 0..10 {
        for (found, expected) in row(&data, i).iter().zip(&expected) {
            assert!(
                (found - expected).abs() < 8.0 / 255.0,
                "{i}: {found}, not {expected}"
            );
        }
    }
}

#[test]
fn subfolders_are_searched_to_any_depth() {
    let files = [
        ("cat/0.png", png(&gray(0))),
        ("cat/more/and/more/1.png", png(&gray(51))),
        ("dog/x/2.png", png(&gray(102))),
    ];
    let data = loaded(&files, 2, Channels::Gray);
    assert_eq!(data.class_names(), ["cat", "dog"]);
    let labels: Vec<_> = (0..3).map(|i| data.label(i)).collect();
    assert_eq!(labels, [Some(0), Some(0), Some(1)]);
    assert_eq!(data.class_counts(), [2, 1]);
    // All of one folder is one class, and the note says what may have been meant.
    let nested = [
        ("train/a/0.png", png(&gray(0))),
        ("train/b/1.png", png(&gray(0))),
    ];
    let data = loaded(&nested, 2, Channels::Gray);
    assert_eq!(
        (data.len(), data.class_names()),
        (2, &["train".to_owned()][..])
    );
    let [note] = data.notes() else {
        panic!("{:?}", data.notes())
    };
    assert!(
        note.starts_with("all images are in one class, train;") && note.ends_with("/train"),
        "{note}"
    );
    refused(
        &[("0.png", png(&gray(0))), ("x/y/2.png", png(&gray(0)))],
        &["0.png", "x/y/2.png", "put all images into folders"],
    );
}

#[test]
fn what_is_passed_over_is_counted() {
    let files = [
        ("a.png", png(&gray(0))),
        ("b.txt", vec![]),
        ("c.TXT", vec![]),
        (".DS_Store", vec![]),
        ("README", vec![]),
        ("notes/d.json", vec![]),
        ("__MACOSX/._a.png", vec![]),
    ];
    let data = loaded(&files, 2, Channels::Gray);
    assert_eq!((data.len(), data.classes()), (1, None));
    let note = "passed over: 6 files: 2 .txt, 2 hidden, 1 .json, 1 without an extension";
    assert_eq!(data.notes(), [note]);
}

#[test]
fn classes_are_in_the_order_of_counting_and_keep_their_numbers() {
    let names: Vec<String> = (0..=10).map(|class| format!("{class}/0.png")).collect();
    let images = (0_u8..).map(|class| png(&gray(25 * class)));
    let files: Vec<_> = names.iter().map(String::as_str).zip(images).collect();
    let data = loaded(&files, 2, Channels::Gray);
    assert_eq!(data.class_names()[10], "10");
    for class in 0..=10_u8 {
        let i = usize::from(class);
        assert_eq!(data.label(i), Some(i));
        assert!((row(&data, i)[0] - (2.0 * f32::from(25 * class) / 255.0 - 1.0)).abs() < 1e-6);
    }
    let folder = folder(&[("cat/0.png", png(&gray(0))), ("owl/1.png", png(&gray(0)))]);
    fs::create_dir(folder.path().join("dog")).unwrap();
    let data = load(&source(folder.path(), 2, Channels::Gray)).unwrap();
    assert_eq!((data.classes(), data.label(1)), (Some(3), Some(2)));
    assert_eq!(data.class_counts(), [1, 0, 1]);
    assert_eq!(data.notes(), ["no image in the folder of class dog"]);
}

#[cfg(unix)]
#[test]
fn good_links_are_read_broken_ones_named_and_loops_end() {
    use std::os::unix::fs::symlink;
    let elsewhere = folder(&[("0.png", png(&gray(51))), ("sub/1.png", png(&gray(102)))]);
    let folder = folder(&[("a/2.png", png(&gray(0)))]);
    let path = folder.path();
    symlink(elsewhere.path().join("0.png"), path.join("a/0.png")).unwrap();
    symlink(elsewhere.path().join("sub"), path.join("b")).unwrap();
    symlink("..", path.join("a/up")).unwrap();
    symlink(".", path.join("self")).unwrap();
    let source = source(path, 2, Channels::Gray);
    let data = load(&source).unwrap();
    assert_eq!(
        (data.len(), data.class_names()),
        (3, &["a".to_owned(), "b".to_owned()][..])
    );
    assert_eq!(
        data.notes(),
        ["passed over: 2 files: 2 link to a folder that it is in"]
    );
    symlink("../gone/7.png", path.join("a/7.png")).unwrap();
    assert_refused(&source, &["a/7.png", "a link to ../gone/7.png"]);
}

#[test]
fn the_middle_part_has_the_proportions_asked_for() {
    // The middle 40×80 of 120×80 pixels is white, and so is the middle 120×60 of 120×100.
    let bars = |width, height, white: fn(u32, u32) -> bool| {
        DynamicImage::from(image::GrayImage::from_fn(width, height, |x, y| {
            image::Luma([if white(x, y) { 255 } else { 0 }])
        }))
    };
    let tall = bars(120, 80, |x, _| (40..80).contains(&x));
    let wide = bars(120, 100, |_, y| (20..80).contains(&y));
    for (image, size) in [(tall, [8, 4]), (wide, [4, 8])] {
        let folder = folder(&[("a.png", png(&image))]);
        let data = load(&Source::Images {
            path: folder.path().to_owned(),
            size,
            channels: Channels::Gray,
        });
        let data = data.unwrap();
        assert_eq!(data.shape(), [1, size[0], size[1]]);
        assert_eq!(row(&data, 0), [1.0; 32]);
    }
}
