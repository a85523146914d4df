//! Images that are decoded when they are asked for: the same rows as in memory, and what goes wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ddpm_data::{Batch, Channels, DataError, Dataset, ImageFolder, Loader, Reading, load};
use image::{DynamicImage, ImageFormat, Rgb};

use crate::images::{encoded, folder, gray, png, source};
use crate::row;

fn open(path: &Path, size: usize, channels: Channels) -> Result<ImageFolder, DataError> {
    ImageFolder::open(path, [size, size], channels, &mut |_| ())
}

/// An image of `side`² pixels like no other; `T` is the type of a value.
fn photo<T: image::Primitive + From<u8>>(side: u32) -> image::ImageBuffer<Rgb<T>, Vec<T>>
where
    Rgb<T>: image::Pixel<Subpixel = T>,
{
    let mut state = side;
    image::ImageBuffer::from_fn(side, side, |_, _| {
        Rgb([0; 3].map(|_: u8| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            <T as From<u8>>::from((state >> 24) as u8)
        }))
    })
}

/// Four images of different depths and formats in three classes, one of them without an image.
fn mixed() -> Vec<(&'static str, Vec<u8>)> {
    let jpeg = encoded(&DynamicImage::from(photo::<u8>(20)), ImageFormat::Jpeg);
    let deep = DynamicImage::ImageRgb16(photo::<u16>(9));
    vec![
        ("b/deep.png", png(&deep)),
        ("b/x/1.png", png(&DynamicImage::from(photo::<u8>(7)))),
        ("a/2.jpg", jpeg),
        ("a/3.png", png(&gray(77))),
        ("c/readme.txt", vec![]),
    ]
}

#[test]
fn rows_and_all_that_is_known_of_them_are_those_of_memory() {
    for (files, max) in [(mixed(), 65_535), (mixed()[1..].to_vec(), 255)] {
        let folder = folder(&files);
        for channels in [Channels::Gray, Channels::Rgb] {
            let kept = load(&source(folder.path(), 5, channels)).unwrap();
            let found = open(folder.path(), 5, channels).unwrap();
            assert_eq!(found.len(), files.len() - 1);
            assert_eq!((found.max(), kept.max()), (Some(max), Some(max)));
            assert_eq!((found.len(), found.shape()), (kept.len(), kept.shape()));
            assert_eq!(found.classes(), Some(3));
            assert_eq!(found.class_names(), kept.class_names());
            assert_eq!(found.class_counts(), kept.class_counts());
            assert_eq!((found.notes(), found.notes().len()), (kept.notes(), 2));
            assert_eq!(found.fingerprint(), kept.fingerprint());
            assert_eq!(found.decoded_bytes(), kept.bytes());
            for i in 0..kept.len() {
                assert_eq!(found.label(i), kept.label(i), "{i}");
                assert_eq!(row(&found, i), row(&kept, i), "{i}");
            }
        }
    }
    let loose = folder(&[("0.png", png(&gray(0)))]);
    let loose = open(loose.path(), 2, Channels::Gray).unwrap();
    assert_eq!((loose.classes(), loose.label(0)), (None, None));
}

#[test]
fn batches_are_those_of_memory_for_any_number_of_workers() {
    let folder = folder(&mixed());
    let batches = |data: Arc<dyn Dataset>, workers| -> Vec<Batch> {
        let loader = Loader::new(data, 3, 0..3, 1, true, workers, 0).unwrap();
        loader.take(8).map(Result::unwrap).collect()
    };
    let kept = load(&source(folder.path(), 4, Channels::Rgb)).unwrap();
    let kept = batches(Arc::new(kept), 0);
    for workers in [0, 1, 3] {
        let found = open(folder.path(), 4, Channels::Rgb).unwrap();
        assert_eq!(batches(Arc::new(found), workers), kept, "{workers}");
    }
}

#[test]
fn files_are_in_the_order_of_their_paths() {
    let names = [
        "x/a-b/1.png",
        "x/a.png",
        "x/a/1.png",
        "x/a/b/2.png",
        "x/b.png",
    ];
    let files = names.iter().zip(0..).map(|(n, i)| (*n, png(&gray(i))));
    let folder = folder(&files.collect::<Vec<_>>());
    let data = open(folder.path(), 2, Channels::Gray).unwrap();
    let mut sorted: Vec<_> = names.iter().map(PathBuf::from).zip(0_u8..).collect();
    sorted.sort();
    for (i, (path, value)) in sorted.iter().enumerate() {
        let expected = 2.0 * f32::from(*value) / 255.0 - 1.0;
        assert_eq!(row(&data, i), [expected; 4], "{}", path.display());
    }
}

/// A good header, and half of the pixels: found when the row is asked for, by the same step for any
/// number of workers; the other batches are good.
#[test]
fn a_broken_file_is_named_when_its_row_is_asked_for() {
    let mut files: Vec<_> = ["0.png", "1.png", "2.png", "3.png"]
        .map(|name| (name, png(&gray(9))))
        .into();
    let large = png(&DynamicImage::from(photo::<u8>(30)));
    files[2].1 = large[..large.len() / 2].to_vec();
    let folder = folder(&files);
    let data = Arc::new(open(folder.path(), 2, Channels::Gray).unwrap());
    for workers in [0, 1, 3] {
        let loader = Loader::new(data.clone(), 1, 0..1, 0, false, workers, 0).unwrap();
        for (step, batch) in loader.take(8).enumerate() {
            let position = Loader::new(data.clone(), 1, 0..1, 0, false, 0, 0).unwrap();
            match (batch, position.batch(step as u64)) {
                (Ok(batch), Ok(same)) => assert_eq!(batch, same),
                (Err(error), Err(same)) => {
                    assert_eq!(error.to_string(), same.to_string());
                    let error = error.to_string();
                    assert!(error.contains("2.png: is not whole"), "{error}");
                }
                (batch, _) => panic!("step {step}: {batch:?}"),
            }
        }
    }
    assert!(data.write_row(2, &mut [0.0; 4]).is_err());
    let error = data.decode(&mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("2.png: is not whole"), "{error}");
}

#[test]
fn a_file_without_a_header_is_named_at_once() {
    let mut files = mixed();
    files[1].1 = b"<html>404</html>".to_vec();
    let folder = folder(&files);
    let error = open(folder.path(), 2, Channels::Rgb)
        .unwrap_err()
        .to_string();
    assert!(error.contains("b/x/1.png: cannot be decoded"), "{error}");
    let missing = open(&folder.path().join("no"), 2, Channels::Rgb);
    assert!(matches!(missing, Err(DataError::Missing(_))));
}

/// A JPEG whose frame follows 200 KB of comments, and a TIFF whose directory is at its end.
#[test]
fn headers_may_be_anywhere_in_a_file() {
    let jpeg = encoded(&DynamicImage::from(photo::<u8>(16)), ImageFormat::Jpeg);
    let comment = [&b"\xff\xfe\xff\xff"[..], &vec![0; 65_533]].concat();
    let jpeg = [&jpeg[..2], &comment.repeat(3), &jpeg[2..]].concat();
    let tiff = encoded(
        &DynamicImage::ImageRgb16(photo::<u16>(200)),
        ImageFormat::Tiff,
    );
    let files = [("a.jpg", jpeg), ("b.tif", tiff)];
    let both = folder(&files);
    let found = open(both.path(), 4, Channels::Rgb).unwrap();
    assert_eq!(found.max(), Some(65_535));
    let kept = load(&source(both.path(), 4, Channels::Rgb)).unwrap();
    assert!((0..2).all(|i| row(&found, i) == row(&kept, i)));
    let one = folder(&files[..1]);
    let found = open(one.path(), 4, Channels::Rgb).unwrap();
    assert_eq!(found.max(), Some(255));
}

#[test]
fn the_fingerprint_is_of_names_classes_lengths_and_ends() {
    let fingerprint = |files: &[(&str, Vec<u8>)]| {
        let folder = folder(files);
        let data = open(folder.path(), 2, Channels::Rgb).unwrap();
        data.fingerprint()
    };
    let files = mixed();
    let whole = fingerprint(&files);
    // In another folder, with other files that are passed over.
    let mut more = files.clone();
    more.push(("a/more.txt", vec![1]));
    assert_eq!(fingerprint(&more), whole);
    let changed = |change: fn(&mut Vec<(&str, Vec<u8>)>)| {
        let mut files = mixed();
        change(&mut files);
        fingerprint(&files)
    };
    let mut others = vec![
        whole.clone(),
        changed(|files| files[0].0 = "b/other.png"),
        changed(|files| files[3].0 = "c/3.png"),
        changed(|files| files[4].0 = "d/readme.txt"),
        changed(|files| files.push(("d/readme.txt", vec![]))),
        changed(|files| files[2].1.push(0)),
        changed(|files| *files[2].1.last_mut().unwrap() ^= 1),
        changed(|files| drop(files.remove(1))),
    ];
    let same = folder(&files);
    let gray = open(same.path(), 2, Channels::Gray).unwrap().fingerprint();
    let large = open(same.path(), 3, Channels::Rgb).unwrap().fingerprint();
    others.extend([gray, large]);
    let count = others.len();
    others.sort();
    others.dedup();
    assert_eq!(others.len(), count);
    assert_eq!(whole.len(), 64);
}

/// The first and last 4096 bytes count, and what is between them does not, as the documentation says.
#[test]
fn the_middle_of_a_long_file_is_not_looked_at() {
    let bmp = encoded(&DynamicImage::from(photo::<u8>(100)), ImageFormat::Bmp);
    let folder = folder(&[("a.bmp", bmp.clone())]);
    let fingerprint = |at: Option<usize>| {
        let mut bytes = bmp.clone();
        if let Some(at) = at {
            bytes[at] ^= 1;
        }
        fs::write(folder.path().join("a.bmp"), bytes).unwrap();
        let data = open(folder.path(), 2, Channels::Rgb).unwrap();
        data.fingerprint()
    };
    let (whole, length) = (fingerprint(None), bmp.len());
    for at in [4095, length - 4096, length - 1] {
        assert_ne!(fingerprint(Some(at)), whole, "{at}");
    }
    for at in [4096, length - 4097] {
        assert_eq!(fingerprint(Some(at)), whole, "{at}");
    }
}

#[test]
fn a_file_that_became_deeper_is_refused() {
    let folder = folder(&[("0.png", png(&gray(0)))]);
    let data = open(folder.path(), 2, Channels::Gray).unwrap();
    let deep = DynamicImage::ImageRgb16(photo::<u16>(2));
    fs::write(folder.path().join("0.png"), png(&deep)).unwrap();
    let error = data.write_row(0, &mut [0.0; 4]).unwrap_err().to_string();
    assert!(error.contains("0.png: has 16 bits"), "{error}");
}

#[test]
fn progress_is_reported_until_all_is_done() {
    let image = png(&gray(5));
    let names: Vec<String> = (0..2100).map(|i| format!("{i}.png")).collect();
    let files: Vec<_> = names.iter().map(|n| (n.as_str(), image.clone())).collect();
    let folder = folder(&files);
    let mut seen = Vec::new();
    let mut record = |reading| seen.push(reading);
    let data = ImageFolder::open(folder.path(), [2, 2], Channels::Gray, &mut record).unwrap();
    data.decode(&mut record).unwrap();
    assert_eq!(seen[0], Reading::Listed { found: 1000 });
    assert_eq!(seen[1], Reading::Listed { found: 2000 });
    let total = 2100;
    assert_eq!(seen[10], Reading::Checked { done: total, total });
    assert_eq!(seen.last(), Some(&Reading::Decoded { done: total, total }));
    let decoded = seen[11..].iter().map(|reading| match reading {
        Reading::Decoded { done, .. } => *done,
        other => panic!("{other:?}"),
    });
    assert!(decoded.is_sorted());
    // Names of 8 bytes and where they end; then the one image of 2×2 pixels that is decoded.
    assert!(data.bytes() < 2100 * 16 + 1000, "{}", data.bytes());
}
