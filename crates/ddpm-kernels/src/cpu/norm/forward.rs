//! The forward pass of GroupNorm: one pass for the moments, one for y.

use rayon::prelude::*;

use super::chunk::{self, Affine, Sums};
use super::group_norm::{GroupNorm, ImageSlices, Moments};
use crate::cpu::isa::Isa;

/// Computes y `[B, pixels, C]` and the moments `[B, G]`, which
/// [`backward`](super::backward::backward) needs.
///
/// # Panics
///
/// If a length does not match, or the groups do not divide the channels.
pub fn forward(
    isa: Isa,
    norm: &GroupNorm<'_>,
    images: ImageSlices<'_>,
    y: &mut [f32],
    moments: &mut [Moments],
) {
    norm.check_all(&images, y.len(), moments.len());
    (moments.par_chunks_mut(norm.groups).enumerate())
        .for_each(|(b, moments)| image_moments(isa, norm, &images, b, moments));
    forward_again(isa, norm, images, moments, y);
}

/// Computes the same y again, from the moments that [`forward`] found.
///
/// # Panics
///
/// As [`forward`].
pub fn forward_again(
    isa: Isa,
    norm: &GroupNorm<'_>,
    images: ImageSlices<'_>,
    moments: &[Moments],
    y: &mut [f32],
) {
    norm.check_all(&images, y.len(), moments.len());
    let (c, pixels) = (norm.channels(), norm.pixels);
    let (repeat, chunk) = norm.tiling(&images);
    (y.par_chunks_mut((pixels * c).max(1)))
        .zip(moments.par_chunks(norm.groups))
        .enumerate()
        .for_each(|(b, (y, moments))| {
            let parts = norm.parts(&images, b);
            let affine: Vec<Affine> = (parts.iter())
                .map(|part| norm.affine(b, part, repeat, moments))
                .collect();
            y.par_chunks_mut(chunk * c).enumerate().for_each(|(i, y)| {
                for (part, affine) in parts.iter().zip(&affine) {
                    let x = part.pixels(i * chunk, y.len() / c);
                    chunk::apply(isa, x, affine, norm.silu, y, part.rows(c, repeat));
                }
            });
        });
}

/// Computes the moments of the groups of image `b`.
fn image_moments(
    isa: Isa,
    norm: &GroupNorm<'_>,
    images: &ImageSlices<'_>,
    b: usize,
    moments: &mut [Moments],
) {
    let (repeat, chunk) = norm.tiling(images);
    let mut channels = Vec::with_capacity(norm.channels());
    for part in norm.parts(images, b) {
        let chunks: Vec<Vec<Sums>> = (part.x.par_chunks((chunk * part.channels).max(1)))
            .map(|x| chunk::moments(isa, x, part.channels, repeat))
            .collect();
        channels.extend((0..part.channels).map(|c| {
            let mut sums = Sums::combine(chunks.iter().map(|chunk| chunk[c]));
            sums.mean += norm.pre(b, part.first + c);
            sums
        }));
    }
    let size = (norm.channels() / norm.groups).max(1);
    for (moments, group) in moments.iter_mut().zip(channels.chunks(size)) {
        let sums = Sums::combine(group.iter().copied());
        *moments = Moments {
            mean: sums.mean,
            rstd: (sums.squares / sums.n + norm.eps).sqrt().recip(),
        };
    }
}
