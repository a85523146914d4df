//! Samples as pictures: single images, a grid, an animation, a scatter plot of points.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, Frame, ImageError, Rgb, RgbImage};

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
        let [channels, height, width] = *self.shape.as_slice() else {
            return self.scatter();
        };
        let columns = (self.count() as f64).sqrt().ceil().max(1.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let columns = columns as usize;
        let rows = self.count().div_ceil(columns);
        // Enlarged by a whole factor, so that a tile has some 32 pixels and no pixel is blurred.
        let scale = (32 / height.max(width)).max(1);
        let (tile_w, tile_h) = (width * scale + 2, height * scale + 2);
        let mut grid = RgbImage::from_pixel(
            side(columns * tile_w + 2),
            side(rows * tile_h + 2),
            Rgb([40, 40, 40]),
        );
        for (i, row) in self
            .values
            .chunks_exact(channels * height * width)
            .enumerate()
        {
            let (left, top) = (2 + i % columns * tile_w, 2 + i / columns * tile_h);
            for y in 0..height * scale {
                for x in 0..width * scale {
                    let pixel = pixel(row, channels, height * width, y / scale * width + x / scale);
                    grid.put_pixel(side(left + x), side(top + y), pixel);
                }
            }
        }
        grid
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

/// Writes frames as a GIF that loops and rests on its last frame.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_film(path: &Path, frames: Vec<RgbImage>) -> Result<(), ImageError> {
    let file = BufWriter::new(File::create(path)?);
    let mut encoder = GifEncoder::new_with_speed(file, 10);
    encoder.set_repeat(Repeat::Infinite)?;
    let last = frames.len().saturating_sub(1);
    for (i, frame) in frames.into_iter().enumerate() {
        let delay = Delay::from_numer_denom_ms(if i == last { 2000 } else { 80 }, 1);
        let frame = image::DynamicImage::from(frame).into_rgba8();
        encoder.encode_frame(Frame::from_parts(frame, 0, 0, delay))?;
    }
    Ok(())
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
