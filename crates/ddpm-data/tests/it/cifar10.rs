//! CIFAR-10's binary batches, whole and broken.

use std::fs;
use std::path::Path;

use ddpm_data::{Dataset, Source, load};
use tempfile::TempDir;

use crate::{assert_refused, row};

const NAMES: &str = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";

/// A record of one class, every byte of channel c being 85·(c + 1).
fn record(class: u8) -> Vec<u8> {
    let mut bytes = vec![class];
    bytes.extend([85, 170, 255].into_iter().flat_map(|value| [value; 1024]));
    bytes
}

/// Five batches; batch n has n records of class n.
fn cifar(folder: &Path) {
    for n in 1..=5 {
        let file = folder.join(format!("data_batch_{n}.bin"));
        fs::write(file, record(n).repeat(n.into())).unwrap();
    }
    fs::write(folder.join("batches.meta.txt"), NAMES).unwrap();
}

fn source(folder: &TempDir) -> Source {
    Source::Cifar10 {
        path: folder.path().to_owned(),
    }
}

#[test]
fn batches_are_read_in_order() {
    let folder = tempfile::tempdir().unwrap();
    cifar(folder.path());
    let data = load(&source(&folder)).unwrap();
    assert_eq!(
        (data.len(), data.shape(), data.classes()),
        (15, &[3, 32, 32][..], Some(10))
    );
    assert_eq!(
        (data.label(0), data.label(2), data.label(14)),
        (Some(1), Some(2), Some(5))
    );
    assert_eq!(
        (data.class_names().len(), data.class_names()[9].as_str()),
        (10, "truck")
    );
    let values = row(&data, 3);
    // 2/3 − 1 and 4/3 − 1 to a rounding.
    assert!((values[0] + 1.0 / 3.0).abs() < 1e-7 && (values[1024] - 1.0 / 3.0).abs() < 1e-7);
    assert_eq!(values[2048..], [1.0; 1024]);
}

#[test]
fn the_archives_folder_may_be_inside() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("cifar-10-batches-bin");
    fs::create_dir(&inner).unwrap();
    cifar(&inner);
    fs::remove_file(inner.join("batches.meta.txt")).unwrap();
    let data = load(&source(&folder)).unwrap();
    assert_eq!((data.len(), data.class_names()[9].as_str()), (15, "truck"));
}

#[test]
fn broken_batches_are_refused() {
    let broken = |file: &str, bytes: &[u8], parts: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        cifar(folder.path());
        fs::write(folder.path().join(file), bytes).unwrap();
        assert_refused(&source(&folder), &[&[file], parts].concat());
    };
    broken("data_batch_2.bin", &[], &["3073", "found 0 bytes"]);
    broken(
        "data_batch_3.bin",
        &record(1)[..3000],
        &["3073", "found 3000 bytes"],
    );
    broken(
        "data_batch_3.bin",
        &[record(1), vec![0]].concat(),
        &["3073", "found 3074 bytes"],
    );
    broken(
        "data_batch_4.bin",
        &[record(9), record(10)].concat(),
        &["record 1", "0..=9", "found 10"],
    );
    broken(
        "batches.meta.txt",
        b"cat\ndog\n",
        &["10 class names", "found 2"],
    );
    broken("batches.meta.txt", &[0xff], &["UTF-8"]);
}

#[test]
fn a_missing_batch_is_named() {
    let folder = tempfile::tempdir().unwrap();
    cifar(folder.path());
    fs::remove_file(folder.path().join("data_batch_5.bin")).unwrap();
    assert_refused(&source(&folder), &["data_batch_5.bin"]);
}

#[test]
fn one_file_is_a_data_set() {
    let folder = tempfile::tempdir().unwrap();
    cifar(folder.path());
    let path = folder.path().join("test_batch.bin");
    fs::write(&path, record(8).repeat(7)).unwrap();
    let data = load(&Source::Cifar10 { path }).unwrap();
    assert_eq!((data.len(), data.label(6)), (7, Some(8)));
    assert_eq!(data.class_names()[8], "ship");
}
