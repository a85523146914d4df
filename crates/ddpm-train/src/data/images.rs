//! A folder of PNG and JPEG files of any size and depth.

use std::path::{Path, PathBuf};

use image::imageops::{FilterType, crop_imm, resize};
use image::{DynamicImage, GenericImageView, ImageReader, Limits, Rgba};

use super::{Channels, DataError, Dataset, Values, read};

/// Memory one image may take while it is decoded: a header cannot ask for more.
const MAX_DECODED: u64 = 512 << 20;

pub(super) fn load(path: &Path, size: usize, channels: Channels) -> Result<Dataset, DataError> {
    let (files, class_names) = list(path)?;
    let count = match channels {
        Channels::Gray => 1,
        Channels::Rgb => 3,
    };
    let mut values = Vec::with_capacity(files.len() * count * size * size);
    let mut labels = Vec::with_capacity(files.len());
    for (file, class) in &files {
        let pixels = decode(file, size)?;
        match channels {
            // Luma by the weights of Rec. 709, as `image` has them.
            Channels::Gray => values.extend(DynamicImage::from(pixels).into_luma16().into_raw()),
            Channels::Rgb => {
                for channel in 0..3 {
                    values.extend(pixels.pixels().map(|p| p.0[channel]));
                }
            }
        }
        labels.push(*class);
    }
    let classes = class_names.len();
    let labels = (classes > 0).then_some(labels);
    let values = Values::Words(values);
    let mut dataset = Dataset::new(vec![count, size, size], values, labels, classes);
    dataset.class_names = class_names;
    Ok(dataset)
}

/// Files with their class, and the names of the classes.
type Listing = (Vec<(PathBuf, usize)>, Vec<String>);

/// The image files in sorted order with their class, and the classes: the names of subfolders.
fn list(path: &Path) -> Result<Listing, DataError> {
    let mut folders = entries(path)?;
    folders.retain(|entry| entry.is_dir());
    let mut files: Vec<(PathBuf, usize)> = Vec::new();
    let mut class_names = Vec::new();
    for (class, folder) in folders.iter().enumerate() {
        files.extend(image_files(folder)?.into_iter().map(|file| (file, class)));
        let name = folder.file_name().unwrap_or_default();
        class_names.push(name.to_string_lossy().into_owned());
    }
    let loose = image_files(path)?;
    if let (Some(file), false) = (loose.first(), class_names.is_empty()) {
        let reason = "lies beside subfolders, which are classes; it has none".to_owned();
        return Err(DataError::format(file, reason));
    }
    files.extend(loose.into_iter().map(|file| (file, 0)));
    if files.is_empty() {
        let reason = "holds no .png, .jpg or .jpeg file".to_owned();
        return Err(DataError::format(path, reason));
    }
    Ok((files, class_names))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |error| DataError::io(folder, error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn image_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let is_image = |path: &PathBuf| {
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        ["png", "jpg", "jpeg"].contains(&extension.to_ascii_lowercase().as_str())
    };
    let mut files = entries(folder)?;
    files.retain(|path| path.is_file() && is_image(path));
    Ok(files)
}

/// An image as `size`×`size` RGB of 16 bits: composited on white, its short side resized to
/// `size`, its middle cropped.
fn decode(
    file: &Path,
    size: usize,
) -> Result<image::ImageBuffer<image::Rgb<u16>, Vec<u16>>, DataError> {
    let format =
        |e: &dyn std::fmt::Display| DataError::format(file, format!("cannot be decoded: {e}"));
    let bytes = read(file)?;
    let mut reader = ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| format(&e))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    let image = reader.decode().map_err(|e| format(&e))?;
    let (width, height) = image.dimensions();
    if width == 0 || height == 0 {
        return Err(format(&format!("{width}×{height} pixels")));
    }

    let mut rgba = image.into_rgba16();
    for Rgba([r, g, b, a]) in rgba.pixels_mut() {
        let opacity = u32::from(*a);
        for value in [r, g, b] {
            let over = u32::from(*value) * opacity + 65_535 * (65_535 - opacity);
            *value = u16::try_from((over + 32_767) / 65_535).unwrap_or(u16::MAX);
        }
        *a = u16::MAX;
    }
    let size = u32::try_from(size).map_err(|e| format(&e))?;
    let short = u64::from(width.min(height));
    let scaled = |side: u32| {
        let side = (u64::from(side) * u64::from(size) + short / 2) / short;
        u32::try_from(side).unwrap_or(u32::MAX).max(size)
    };
    let (new_width, new_height) = (scaled(width), scaled(height));
    // A strip of a pixel's height would be stretched to an absurd width.
    if u64::from(new_width) * u64::from(new_height) * 8 > MAX_DECODED {
        return Err(format(&format!("{width}×{height} is too elongated")));
    }
    let resized = if (new_width, new_height) == (width, height) {
        rgba
    } else {
        resize(&rgba, new_width, new_height, FilterType::CatmullRom)
    };
    let (left, top) = ((new_width - size) / 2, (new_height - size) / 2);
    let cropped = crop_imm(&resized, left, top, size, size).to_image();
    Ok(DynamicImage::from(cropped).into_rgb16())
}
