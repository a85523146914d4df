//! The tensors and sizes of a GroupNorm, and how its work is divided.

use super::chunk::{Affine, RowLayout};
use crate::cpu::lengths::tensor_len;
use crate::cpu::vector::rounded;

/// Elements of an image in a chunk, the work of a task: few enough for a second-level cache.
const CHUNK: usize = 32 * 1024;
/// The least length of a row: several pixels form one row if they have few channels.
const ROW: usize = 64;

/// A GroupNorm without its images.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a> {
    /// Images in the batch, B.
    pub batch: usize,
    /// Pixels of an image, H·W.
    pub pixels: usize,
    /// Groups, G, a divisor of the number of channels.
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

/// Images `[B, pixels, C]`: one tensor, or two with the first and the other channels.
#[derive(Clone, Copy, Debug)]
pub struct ImageSlices<'a> {
    /// The first channels.
    pub x: &'a [f32],
    /// The other channels, if x does not have all of them.
    pub x2: Option<&'a [f32]>,
}

/// Where the gradients are written; every element is. The gradients of optional inputs are
/// optional.
#[derive(Debug)]
pub struct NormGradients<'a> {
    /// Of x.
    pub x: &'a mut [f32],
    /// Of x2, required if there is an x2.
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

/// The number of floats of a tensor.
pub(super) fn len_of(sizes: &[usize]) -> usize {
    tensor_len("GroupNorm", sizes)
}

/// One image in one of the tensors: channels `first..first + channels`.
pub(super) struct ImagePart<'a> {
    pub(super) x: &'a [f32],
    pub(super) first: usize,
    pub(super) channels: usize,
}

impl<'a> ImagePart<'a> {
    pub(super) fn pixels(&self, from: usize, count: usize) -> &'a [f32] {
        &self.x[from * self.channels..][..count * self.channels]
    }

    /// How the rows of this part lie in a tensor of all `channels`.
    pub(super) fn rows(&self, channels: usize, repeat: usize) -> RowLayout {
        RowLayout {
            stride: channels * repeat,
            first: self.first,
        }
    }
}

impl GroupNorm<'_> {
    pub(super) fn channels(&self) -> usize {
        self.weight.len()
    }

    /// Floats of all images.
    pub(super) fn len(&self) -> usize {
        len_of(&[self.batch, self.pixels, self.channels()])
    }

    /// Channels of x, the first of the two tensors.
    pub(super) fn split(&self, images: &ImageSlices<'_>) -> usize {
        images.x.len() / (self.batch * self.pixels).max(1)
    }

    pub(super) fn check(&self, images: &ImageSlices<'_>, others: &[(&str, Option<usize>, usize)]) {
        let (c, batch) = (self.channels(), self.batch);
        // Of one image as well: without images the batch is 0, and the others are still multiplied.
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

    pub(super) fn check_all(&self, images: &ImageSlices<'_>, y: usize, moments: usize) {
        let others = [
            ("y", Some(y), self.len()),
            ("moments", Some(moments), len_of(&[self.batch, self.groups])),
        ];
        self.check(images, &others);
    }

    pub(super) fn parts<'x>(&self, images: &ImageSlices<'x>, b: usize) -> Vec<ImagePart<'x>> {
        let first = self.split(images);
        let of = |x: &'x [f32], first: usize, channels: usize| ImagePart {
            x: &x[b * self.pixels * channels..][..self.pixels * channels],
            first,
            channels,
        };
        let mut parts = vec![of(images.x, 0, first)];
        parts.extend(images.x2.map(|x2| of(x2, first, self.channels() - first)));
        parts
    }

    /// The number of pixels in a row, and the number of pixels in a chunk, a multiple of it.
    pub(super) fn tiling(&self, images: &ImageSlices<'_>) -> (usize, usize) {
        let c = self.channels().max(1);
        let repeat = if images.x2.is_none() {
            ROW.div_ceil(c)
        } else {
            1
        };
        (repeat, (CHUNK / c).max(1).next_multiple_of(repeat))
    }

    /// (1 + scale, shift) of channel `c` in image `b`.
    pub(super) fn modulation(&self, b: usize, c: usize) -> (f64, f64) {
        self.scale_shift.map_or((1.0, 0.0), |s| {
            let s = &s[2 * b * self.channels()..];
            (1.0 + f64::from(s[c]), f64::from(s[self.channels() + c]))
        })
    }

    /// The shift of channel `c` of image `b` before the norm.
    pub(super) fn pre(&self, b: usize, c: usize) -> f64 {
        self.pre_shift
            .map_or(0.0, |pre| f64::from(pre[b * self.channels() + c]))
    }

    /// z = (x − centre)·factor + term for the channels of a part.
    ///
    /// The centre is the mean rounded to f32, so that x − centre does not cancel; the term contains the
    /// rounding error.
    pub(super) fn affine(
        &self,
        b: usize,
        part: &ImagePart<'_>,
        repeat: usize,
        moments: &[Moments],
    ) -> Affine {
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
