//! Any bytes as IDX files, raw or gzip: as images, and as the labels of two images.

#![no_main]

use ddpm_fuzz::data::load;
use ddpm_data::Source;
use libfuzzer_sys::fuzz_target;

/// Two images of one pixel.
const IMAGES: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 255];

fuzz_target!(|bytes: &[u8]| {
    let source = |folder: &std::path::Path| Source::Idx {
        path: folder.to_owned(),
    };
    let (images, labels) = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    load(&[(images, bytes)], source);
    load(&[(images, IMAGES), (labels, bytes)], source);
});
