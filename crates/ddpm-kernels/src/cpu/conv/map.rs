//! The tensors and sizes of one convolution, its transpose, or its weight gradient.

use super::axis::Axis;
use super::blocks::{Block, cover};
use super::epilogue::Epilogue;

/// The images that are read. Their channels are those of both slices, side by side.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) images: [&'a [f32]; 2],
    pub(crate) channels: [usize; 2],
}

impl Source<'_> {
    /// The number of channels of both slices.
    pub(crate) fn inputs(&self) -> usize {
        self.channels[0] + self.channels[1]
    }

    /// The larger number of channels.
    pub(crate) fn most_channels(&self) -> usize {
        self.channels[0].max(self.channels[1])
    }
}

/// A linear map from images to images: a convolution or its transpose, as the axes say.
#[derive(Clone, Copy)]
pub(crate) struct ImageMap<'a> {
    pub(crate) axes: &'a [Axis; 2],
    pub(crate) batch: usize,
    pub(crate) source: Source<'a>,
    pub(crate) epilogue: Epilogue<'a>,
    /// Channels of the output.
    pub(crate) channels: usize,
}

impl ImageMap<'_> {
    /// Checks the lengths on which the `unsafe` code of the algorithms depends.
    ///
    /// # Panics
    ///
    /// If a source or the output has another length than its images, or the weights' `blocks` are
    /// not those of the output's channels.
    pub(crate) fn check(&self, output: usize, blocks: &[Block]) {
        let Self { axes, batch, .. } = *self;
        assert_eq!(
            output,
            batch * axes[0].output * axes[1].output * self.channels,
            "length of the output"
        );
        assert!(cover(blocks, self.channels), "weights of all channels");
        let pixels = batch * axes[0].source * axes[1].source;
        for (images, channels) in std::iter::zip(self.source.images, self.source.channels) {
            assert_eq!(images.len(), pixels * channels, "length of a source");
        }
    }
}

/// The inputs of a weight gradient.
#[derive(Clone, Copy)]
pub(crate) struct WeightGradient<'a> {
    pub(crate) axes: &'a [Axis; 2],
    pub(crate) batch: usize,
    pub(crate) source: Source<'a>,
    /// The gradient of the output, `[batch, output height, output width, channels]`.
    pub(crate) dy: &'a [f32],
    /// Channels of the output.
    pub(crate) channels: usize,
}

/// Distances between neighbouring weights, in floats. Which channels are summed over and which are
/// kept depends on the map: a convolution sums over its input channels, its transpose over its
/// output channels.
#[derive(Clone, Copy)]
pub(crate) struct Strides {
    /// Between channels that are summed over.
    pub(crate) summed: usize,
    /// Between channels that are kept.
    pub(crate) kept: usize,
    /// Between rows of the kernel.
    pub(crate) row: usize,
}
