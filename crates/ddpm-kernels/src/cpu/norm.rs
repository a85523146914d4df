//! GroupNorm with what surrounds it in a residual block: the time embedding added before it,
//! the scale and shift after it, and SiLU.
//!
//! Over an image's pixels p and the channels c of a group, with u = x + pre,
//!
//! ```text
//! x̂ = (u − mean)/√(var + ε),   z = (x̂·weight + bias)·(1 + scale) + shift,   y = SiLU(z)
//! ```
//!
//! (Wu & He 2018; the scale and shift of Dhariwal & Nichol 2021). Images are read twice in each
//! direction. The moments are exact enough for any mean: each chunk of an image is summed about
//! its own mean by two passes over cache, and the chunks are combined in f64 by the formula of
//! Chan, Golub & LeVeque 1983.

use rayon::prelude::*;

use super::vector::rounded;
use super::{Isa, tensor_len};
use chunk::{Affine, Rows, Sums};

mod backward;
mod chunk;

pub use backward::backward;

/// Elements of an image that a task works on: small enough for a second-level cache.
const CHUNK: usize = 32 * 1024;
/// Rows are made at least this long by laying several pixels side by side.
const ROW: usize = 64;

/// What a normalisation is, but for the images.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a> {
    /// Images in the batch, B.
    pub batch: usize,
    /// Pixels of an image, H·W.
    pub pixels: usize,
    /// Groups, G, which divides the channels.
    pub groups: usize,
    /// ε, added to the variance.
    pub eps: f64,
    /// Factor of each channel, `[C]`.
    pub weight: &'a [f32],
    /// Term of each channel, `[C]`.
    pub bias: &'a [f32],
    /// Added to x before the moments are taken, `[B, C]`.
    pub pre_shift: Option<&'a [f32]>,
    /// Scale and shift after the bias, `[B, 2, C]`: the scales of an image before its shifts.
    pub scale_shift: Option<&'a [f32]>,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// Mean and 1/√(variance + ε) of a group of one image.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Mean of x + pre.
    pub mean: f64,
    /// 1/√(variance + ε).
    pub rstd: f64,
}

/// The images: `[B, pixels, C]`, or two tensors that hold the first and the other channels.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// The first channels.
    pub x: &'a [f32],
    /// The other channels, if x holds not all of them.
    pub x2: Option<&'a [f32]>,
}

/// Where the gradients go; every element is written. Optional inputs have optional gradients,
/// which may be left out.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Of x.
    pub x: &'a mut [f32],
    /// Of x2, required where there is an x2.
    pub x2: Option<&'a mut [f32]>,
    /// Of the weight, `[C]`.
    pub weight: &'a mut [f32],
    /// Of the bias, `[C]`.
    pub bias: &'a mut [f32],
    /// Of the shift before, `[B, C]`.
    pub pre_shift: Option<&'a mut [f32]>,
    /// Of scale and shift, `[B, 2, C]`.
    pub scale_shift: Option<&'a mut [f32]>,
}

/// Floats of a tensor.
fn len_of(sizes: &[usize]) -> usize {
    tensor_len("GroupNorm", sizes)
}

/// One image's share of a tensor: channels `first..first + channels`.
struct Part<'a> {
    x: &'a [f32],
    first: usize,
    channels: usize,
}

impl<'a> Part<'a> {
    fn pixels(&self, from: usize, count: usize) -> &'a [f32] {
        &self.x[from * self.channels..][..count * self.channels]
    }

    /// How the rows of this part lie in a tensor of all `channels`.
    fn rows(&self, channels: usize, repeat: usize) -> Rows {
        Rows {
            stride: channels * repeat,
            first: self.first,
        }
    }
}

impl GroupNorm<'_> {
    fn channels(&self) -> usize {
        self.weight.len()
    }

    /// Floats of all images.
    fn len(&self) -> usize {
        len_of(&[self.batch, self.pixels, self.channels()])
    }

    /// Channels of x, the first of the two tensors.
    fn split(&self, images: &Images<'_>) -> usize {
        images.x.len() / (self.batch * self.pixels).max(1)
    }

    fn check(&self, images: &Images<'_>, others: &[(&str, Option<usize>, usize)]) {
        let (c, batch) = (self.channels(), self.batch);
        // For one image as well: there may be none, and its sizes are multiplied all the same.
        len_of(&[self.pixels, c]);
        let (all, area) = (self.len(), len_of(&[batch, self.pixels]));
        assert!(
            self.groups > 0 && c.is_multiple_of(self.groups),
            "GroupNorm: {} groups do not divide {c} channels",
            self.groups
        );
        let len = images.x.len() + images.x2.map_or(0, <[f32]>::len);
        let second = images.x2.map_or(0, <[f32]>::len);
        assert!(
            len == all && (area == 0 || second.is_multiple_of(area)),
            "GroupNorm: {len} elements of x for {area} pixels of {c} channels"
        );
        let own = [
            ("bias", Some(self.bias.len()), c),
            (
                "pre_shift",
                self.pre_shift.map(<[f32]>::len),
                len_of(&[batch, c]),
            ),
            (
                "scale_shift",
                self.scale_shift.map(<[f32]>::len),
                len_of(&[batch, 2, c]),
            ),
        ];
        for &(name, len, expected) in own.iter().chain(others) {
            assert!(
                len.is_none_or(|len| len == expected),
                "GroupNorm: {name} has {len:?} elements instead of {expected}"
            );
        }
    }

    fn check_all(&self, images: &Images<'_>, y: usize, moments: usize) {
        let others = [
            ("y", Some(y), self.len()),
            ("moments", Some(moments), len_of(&[self.batch, self.groups])),
        ];
        self.check(images, &others);
    }

    fn parts<'x>(&self, images: &Images<'x>, b: usize) -> Vec<Part<'x>> {
        let first = self.split(images);
        let of = |x: &'x [f32], first: usize, channels: usize| Part {
            x: &x[b * self.pixels * channels..][..self.pixels * channels],
            first,
            channels,
        };
        let mut parts = vec![of(images.x, 0, first)];
        parts.extend(images.x2.map(|x2| of(x2, first, self.channels() - first)));
        parts
    }

    /// Pixels laid side by side in a row, and pixels in a chunk, a multiple of it.
    fn tiling(&self, images: &Images<'_>) -> (usize, usize) {
        let c = self.channels().max(1);
        let repeat = if images.x2.is_none() {
            ROW.div_ceil(c)
        } else {
            1
        };
        (repeat, (CHUNK / c).max(1).next_multiple_of(repeat))
    }

    /// (1 + scale, shift) of channel `c` in image `b`.
    fn modulation(&self, b: usize, c: usize) -> (f64, f64) {
        self.scale_shift.map_or((1.0, 0.0), |s| {
            let s = &s[2 * b * self.channels()..];
            (1.0 + f64::from(s[c]), f64::from(s[self.channels() + c]))
        })
    }

    fn pre(&self, b: usize, c: usize) -> f64 {
        self.pre_shift
            .map_or(0.0, |pre| f64::from(pre[b * self.channels() + c]))
    }

    /// Moments of the groups of image `b`.
    fn moments(&self, isa: Isa, images: &Images<'_>, b: usize, moments: &mut [Moments]) {
        let (repeat, chunk) = self.tiling(images);
        let mut channels = Vec::with_capacity(self.channels());
        for part in self.parts(images, b) {
            let chunks: Vec<Vec<Sums>> = (part.x.par_chunks((chunk * part.channels).max(1)))
                .map(|x| chunk::moments(isa, x, part.channels, repeat))
                .collect();
            channels.extend((0..part.channels).map(|c| {
                let mut sums = Sums::combine(chunks.iter().map(|chunk| chunk[c]));
                sums.mean += self.pre(b, part.first + c);
                sums
            }));
        }
        let size = (self.channels() / self.groups).max(1);
        for (moments, group) in moments.iter_mut().zip(channels.chunks(size)) {
            let sums = Sums::combine(group.iter().copied());
            *moments = Moments {
                mean: sums.mean,
                rstd: (sums.squares / sums.n + self.eps).sqrt().recip(),
            };
        }
    }

    /// z = (x − centre)·factor + term for the channels of a part.
    ///
    /// The centre is the mean rounded to f32, so that x − centre does not cancel; what was
    /// rounded away is in the term.
    fn affine(&self, b: usize, part: &Part<'_>, repeat: usize, moments: &[Moments]) -> Affine {
        let size = self.channels() / self.groups;
        Affine::new(part.channels, repeat, |channel| {
            let c = part.first + channel;
            let Moments { mean, rstd } = moments[c / size];
            let (scale, shift) = self.modulation(b, c);
            let mean = mean - self.pre(b, c);
            let centre = rounded(mean);
            let factor = rstd * f64::from(self.weight[c]) * scale;
            let term = f64::from(self.bias[c]) * scale + shift;
            let remainder = mean - f64::from(centre);
            [centre, rounded(factor), rounded(term - remainder * factor)]
        })
    }
}

/// y `[B, pixels, C]` of the images, and the moments `[B, G]` that [`backward`] needs.
///
/// # Panics
///
/// If a length does not fit the others or the groups do not divide the channels.
pub fn forward(
    isa: Isa,
    norm: &GroupNorm<'_>,
    images: Images<'_>,
    y: &mut [f32],
    moments: &mut [Moments],
) {
    norm.check_all(&images, y.len(), moments.len());
    (moments.par_chunks_mut(norm.groups).enumerate())
        .for_each(|(b, moments)| norm.moments(isa, &images, b, moments));
    again(isa, norm, images, moments, y);
}

/// The same y, of the moments that [`forward`] found.
///
/// # Panics
///
/// As [`forward`].
pub fn again(
    isa: Isa,
    norm: &GroupNorm<'_>,
    images: Images<'_>,
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
