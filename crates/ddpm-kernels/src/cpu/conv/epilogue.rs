//! What is added to a convolution's result before it is stored.

use pulp::Simd;

use crate::cpu::simd::load;

/// The terms added to a convolution.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// `[out_channels]`, added to every pixel.
    pub bias: Option<&'a [f32]>,
    /// `[batch, out_channels]`, added to every pixel of an image: the time embedding.
    pub shift: Option<&'a [f32]>,
    /// Added to the output; has its shape.
    pub residual: Option<&'a [f32]>,
}

/// Some channels of one output pixel.
#[derive(Clone, Copy)]
pub(crate) struct OutputPlace {
    /// The number of the image.
    pub(crate) image: usize,
    /// The index of the first channel's element in the output.
    pub(crate) at: usize,
    /// The first channel.
    pub(crate) first: usize,
    /// The number of channels, at most a vector.
    pub(crate) width: usize,
}

impl Epilogue<'_> {
    /// Returns `sum` plus the terms at `place`; the output has `channels` channels.
    #[inline(always)]
    pub(crate) fn add<S: Simd>(
        &self,
        simd: S,
        sum: S::f32s,
        place: OutputPlace,
        channels: usize,
    ) -> S::f32s {
        let mut sum = sum;
        for (term, at) in [
            (self.bias, place.first),
            (self.shift, place.image * channels + place.first),
            (self.residual, place.at),
        ] {
            if let Some(term) = term {
                sum = simd.add_f32s(sum, load(simd, &term[at..][..place.width]));
            }
        }
        sum
    }
}
