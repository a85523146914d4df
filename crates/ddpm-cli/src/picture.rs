//! Samples as pictures: single images, a grid, a scatter plot of points.

use std::io::Cursor;

use image::{ImageError, ImageFormat, Rgb, RgbImage};

/// Side in pixels of a scatter plot.
const PLOT: u32 = 400;

/// Half the width of a scatter plot, in the data's standard deviations.
const PLOT_RANGE: f32 = 3.0;

/// Rows of samples with their shape, `[channels, height, width]` or `[2]`, in [−1, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// Shape of a row.
    pub shape: Vec<usize>,
    /// The rows, one after the other.
    pub values: Vec<f32>,
}

impl Samples {
    /// Number of rows.
    pub fn count(&self) -> usize {
        self.values.len() / self.shape.iter().product::<usize>()
    }

    /// All samples in one picture: a near-square grid of images, enlarged to be seen, or a
    /// scatter plot of points.
    pub fn grid(&self) -> RgbImage {
        let images: Option<Vec<_>> = (0..self.count()).map(|i| self.image(i)).collect();
        images.map_or_else(|| self.scatter(), |images| tile(&images))
    }

    /// Sample `i` alone: one image at its own size, or nothing for points.
    pub fn image(&self, i: usize) -> Option<RgbImage> {
        let [channels, height, width] = *self.shape.as_slice() else {
            return None;
        };
        let row = self.values.chunks_exact(channels * height * width).nth(i)?;
        Some(RgbImage::from_fn(side(width), side(height), |x, y| {
            pixel(
                row,
                channels,
                height * width,
                y as usize * width + x as usize,
            )
        }))
    }

    fn scatter(&self) -> RgbImage {
        let mut plot = RgbImage::from_pixel(PLOT, PLOT, Rgb([255, 255, 255]));
        for point in self.values.chunks_exact(2) {
            let place = |v: f32| {
                let unit = f32::midpoint(v / PLOT_RANGE, 1.0);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                (0.0..1.0)
                    .contains(&unit)
                    .then_some((unit * PLOT as f32) as u32)
            };
            // Points outside the plot, NaN among them, are not drawn.
            if let (Some(x), Some(y)) = (place(point[0]), place(-point[1])) {
                for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    if x + dx < PLOT && y + dy < PLOT {
                        plot.put_pixel(x + dx, y + dy, Rgb([30, 90, 160]));
                    }
                }
            }
        }
        plot
    }
}

/// Pictures from left to right, a little apart.
pub fn side_by_side(pictures: &[RgbImage]) -> RgbImage {
    const GAP: u32 = 6;
    let width = pictures.iter().map(|p| p.width() + GAP).sum::<u32>();
    let height = pictures.iter().map(RgbImage::height).max().unwrap_or(1);
    let size = (width.saturating_sub(GAP).max(1), height);
    let mut all = RgbImage::from_pixel(size.0, size.1, Rgb([128, 128, 128]));
    let mut left = 0;
    for picture in pictures {
        image::imageops::replace(&mut all, picture, i64::from(left), 0);
        left += picture.width() + GAP;
    }
    all
}

/// A picture as a PNG file.
///
/// # Errors
///
/// If it is too large for the format.
pub fn png(picture: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// Pictures of one size in a near-square grid, 2 pixels apart; small ones are enlarged by a whole
/// factor, so that one has some 32 pixels and none is blurred.
pub fn tile(pictures: &[RgbImage]) -> RgbImage {
    let (width, height) = pictures.first().map_or((1, 1), RgbImage::dimensions);
    let count = pictures.len().max(1);
    let columns = count.isqrt();
    let columns = if columns * columns < count {
        columns + 1
    } else {
        columns
    };
    let scale = (32 / height.max(width).max(1)).max(1);
    let (tile_w, tile_h) = (width * scale + 2, height * scale + 2);
    let size = (
        side(columns) * tile_w + 2,
        side(count.div_ceil(columns)) * tile_h + 2,
    );
    let mut grid = RgbImage::from_pixel(size.0, size.1, Rgb([40, 40, 40]));
    for (i, picture) in pictures.iter().enumerate() {
        let (left, top) = (
            2 + side(i % columns) * tile_w,
            2 + side(i / columns) * tile_h,
        );
        for y in 0..height * scale {
            for x in 0..width * scale {
                let pixel = picture.get_pixel(x / scale, y / scale);
                grid.put_pixel(left + x, top + y, *pixel);
            }
        }
    }
    grid
}

/// Pixel `at` of a planar row; one channel is gray, further ones than three are not shown.
fn pixel(row: &[f32], channels: usize, plane: usize, at: usize) -> Rgb<u8> {
    Rgb(std::array::from_fn(|c| {
        byte(row[c.min(channels - 1) * plane + at])
    }))
}

/// [−1, 1] → 0..=255, to the nearest; NaN becomes 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn byte(value: f32) -> u8 {
    ((value + 1.0) * 127.5).round() as u8
}

fn side(pixels: usize) -> u32 {
    u32::try_from(pixels).unwrap_or(u32::MAX)
}
