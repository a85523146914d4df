//! Data of the shapes of the recipes' own. A step takes the same time whatever the pixels are.

use anyhow::Context as _;
use std::{fs, path::Path};

/// Images in a file.
const COUNT: u8 = 40;

/// Gray images of `side`×`side` pixels and their labels, as IDX files.
pub(super) fn write_idx(folder: &Path, side: u8) -> anyhow::Result<()> {
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, COUNT, 0, 0, 0, side, 0, 0, 0, side];
    let pixels = usize::from(COUNT) * usize::from(side).pow(2);
    images.extend((0..=u8::MAX).cycle().take(pixels));
    let mut labels = vec![0, 0, 8, 1, 0, 0, 0, COUNT];
    labels.extend((0..COUNT).map(|i| i % 10));
    write(folder, "train-images-idx3-ubyte", &images)?;
    write(folder, "train-labels-idx1-ubyte", &labels)
}

/// Five files of CIFAR-10, each with eight images.
pub(super) fn write_cifar10(folder: &Path) -> anyhow::Result<()> {
    let pixels = (0..=u8::MAX).cycle().take(3 * 32 * 32);
    let row = |class| [class].into_iter().chain(pixels.clone());
    let rows: Vec<_> = (0..8).flat_map(row).collect();
    for batch in 1..=5 {
        write(folder, &format!("data_batch_{batch}.bin"), &rows)?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, bytes))
        .with_context(|| path.display().to_string())
}
