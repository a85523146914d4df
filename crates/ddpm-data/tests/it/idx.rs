//! IDX files, raw and gzip, whole and broken.

use std::fs;
use std::io::Write;
use std::path::Path;

use ddpm_data::{Dataset, Source, load};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{assert_refused, row};

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";

fn idx(shape: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, u8::try_from(shape.len()).unwrap()];
    bytes.extend(shape.iter().flat_map(|n| n.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Three images of 1×2 and their labels.
fn images() -> Vec<u8> {
    idx(&[3, 1, 2], &[0, 255, 51, 102, 153, 204])
}

fn labels() -> Vec<u8> {
    idx(&[3], &[4, 0, 2])
}

fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn source(path: &Path) -> Source {
    Source::Idx {
        path: path.to_owned(),
    }
}

/// A folder with these bytes as images, or these as labels of good images, is refused.
fn refused(images: Vec<u8>, labels: Option<Vec<u8>>, parts: &[&str]) {
    let file = if labels.is_some() { LABELS } else { IMAGES };
    let mut files = vec![(IMAGES, images)];
    files.extend(labels.map(|labels| (LABELS, labels)));
    let folder = folder(&files);
    assert_refused(&source(folder.path()), &[&[file], parts].concat());
}

#[test]
fn raw_and_gzip_hold_the_same_under_all_names() {
    for files in [
        [(IMAGES, images()), (LABELS, labels())],
        [
            ("train-images.idx3-ubyte", images()),
            ("train-labels.idx1-ubyte", labels()),
        ],
        [
            ("train-images-idx3-ubyte.gz", gzip(&images())),
            (LABELS, labels()),
        ],
        // What is in a file counts, not its name.
        [
            (IMAGES, gzip(&images())),
            ("train-labels-idx1-ubyte.gz", labels()),
        ],
    ] {
        let folder = folder(&files);
        for path in [folder.path().to_owned(), folder.path().join(files[0].0)] {
            let data = load(&source(&path)).unwrap();
            assert_eq!(
                (data.len(), data.shape(), data.classes()),
                (3, &[1, 1, 2][..], Some(5))
            );
            assert_eq!(
                [0, 1, 2].map(|i| data.label(i)),
                [Some(4), Some(0), Some(2)]
            );
            // 51 is a fifth of 255; 2/5 − 1 and its like are right to a rounding, ±1 exactly.
            assert_eq!(row(&data, 0), [-1.0, 1.0]);
            let (found, expected) = (
                [row(&data, 1), row(&data, 2)].concat(),
                [-0.6, -0.2, 0.2, 0.6],
            );
            for (x, e) in found.iter().zip(expected) {
                assert!((x - e).abs() < 1e-7, "{found:?}");
            }
        }
    }
}

#[test]
fn labels_may_be_absent() {
    let folder = folder(&[(IMAGES, images())]);
    let data = load(&source(folder.path())).unwrap();
    assert_eq!((data.classes(), data.label(0)), (None, None));
}

#[test]
fn missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_refused(
        &source(folder.path()),
        &[folder.path().to_str().unwrap(), IMAGES],
    );
    assert_refused(&source(&folder.path().join("nowhere")), &["nowhere"]);
}

#[test]
fn broken_headers_are_refused() {
    refused(vec![], None, &["16 bytes", "found 0"]);
    refused(images()[..9].to_vec(), None, &["16 bytes", "found 9"]);
    refused(
        b"PK\x03\x04 not IDX at all".to_vec(),
        None,
        &["[0, 0, 8]", "[80, 75, 3]"],
    );
    let mut floats = images();
    floats[2] = 13;
    refused(floats, None, &["[0, 0, 8]", "[0, 0, 13]"]);
    refused(labels(), None, &["expected 3 dimensions", "found 1"]);
    refused(
        images(),
        Some(images()),
        &["expected 1 dimensions", "found 3"],
    );
    refused(idx(&[0, 28, 28], &[]), None, &["found 0 of 28×28"]);
    refused(idx(&[2, 0, 28], &[]), None, &["found 2 of 0×28"]);
}

#[test]
fn sizes_must_be_as_declared() {
    let mut long = images();
    long.push(0);
    let short = images()[..21].to_vec();
    refused(short.clone(), None, &["6 values", "[3, 1, 2]", "found 5"]);
    refused(gzip(&short), None, &["6 values", "found 5"]);
    refused(long.clone(), None, &["6 values", "found 7 or more"]);
    refused(gzip(&long), None, &["6 values", "found 7 or more"]);
    // Nothing is allocated for what a header merely claims; the second product is 2⁶⁴ − 1.
    refused(idx(&[u32::MAX; 3], &[7]), None, &["4294967295", "overflow"]);
    refused(
        idx(&[u32::MAX, 641, 6_700_417], &[7]),
        None,
        &["6700417", "found 1"],
    );
    refused(
        images(),
        Some(idx(&[2], &[1, 2])),
        &["expected 3 labels", "found 2"],
    );
    refused(
        images(),
        Some(idx(&[3], &[1, 2])),
        &["expected 3 values", "found 2"],
    );
}

#[test]
fn broken_gzip_is_refused() {
    let whole = gzip(&images());
    refused(whole[..whole.len() - 10].to_vec(), None, &["unpacked"]);
    // The checksum is the first of the last eight bytes.
    let mut flipped = whole.clone();
    let checksum = flipped.len() - 8;
    flipped[checksum] ^= 1;
    refused(flipped, None, &["unpacked"]);
    let mut trailing = whole.clone();
    trailing.extend(b"garbage");
    refused(trailing, None, &["unpacked"]);
    // 64 MiB that fold to 64 KiB, behind a header of 6 values.
    let bomb = gzip(&[images(), vec![0; 64 << 20]].concat());
    refused(bomb, None, &["6 values", "found 7 or more"]);
}

proptest! {
    /// Whatever a file holds, loading it ends in a data set or an error.
    #[test]
    fn no_bytes_make_loading_panic(
        shape in prop::collection::vec(any::<u32>(), 3),
        values in prop::collection::vec(any::<u8>(), 0..40),
        at in 0..20_usize, byte: u8, zip: bool,
    ) {
        let mut bytes = idx(&shape, &values);
        if let Some(b) = bytes.get_mut(at) { *b = byte; }
        if zip { bytes = gzip(&bytes); }
        let folder = folder(&[(IMAGES, bytes)]);
        if let Ok(data) = load(&source(folder.path())) {
            prop_assert!(!data.is_empty());
        }
    }
}
