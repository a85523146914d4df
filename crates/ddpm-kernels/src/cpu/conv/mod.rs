//! Convolutions and their gradients.
//!
//! A convolution along one axis is a set of phases with taps (`axis`), so that padding, stride,
//! upsampling and the transposes of all of them are one loop (`gather`) over one register tile
//! (`tile`). The weight gradient is a sum of outer products over the same taps (`weight`).

mod axis;
mod gather;
mod pack;
mod shape;
mod sums;
mod tile;
mod weight;
mod winograd;

use std::ops::Range;

use axis::Axis;
pub use gather::Epilogue;
use gather::{Source, gather};
pub(crate) use gather::{load, store};
use pack::{Matrix, Strides};
pub use shape::{Shape, ShapeError};
pub use sums::shift_gradient;
use winograd::{Filters, Tile};

use crate::cpu::{Isa, Precision, tensor_len};

/// A convolution of images `[batch, height, width, channels]`.
///
/// The input may be two tensors, side by side in channels; they are never concatenated. Every
/// method takes any batch size and panics if a slice does not have its documented shape.
#[derive(Clone, Debug)]
pub struct Conv {
    shape: Shape,
    axes: [Axis; 2],
    transposed: [Axis; 2],
}

/// Multiplications that take as long as reading a weight from memory, measured: see
/// `docs/performance.md`.
const READ: usize = 24;

/// How a convolution or its input gradient is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// For many images: whichever of the last three takes the fewest multiplications, tiles that
    /// reach beyond the image counted whole; `Direct` with fewer than 32 channels on either side,
    /// where the transforms would cost more than they save. In bf16 never `Winograd4`.
    Fastest,
    /// Likewise for one image, where the weights are read from memory as often as they are used,
    /// and Winograd's are more: reading one counts as 24 multiplications.
    FastestOfOne,
    /// By the definition: every product of an input and a weight. At 64 channels its root mean
    /// square error is 4·10⁻⁷ of the result's root mean square; in bf16, 2·10⁻³.
    Direct,
    /// Winograd's F(2×2, 3×3) for 3×3 kernels of stride 1 without upsampling, all channels a
    /// multiple of the vector; otherwise as `Direct`. Errors as above: 3·10⁻⁷; in bf16, 4·10⁻³.
    Winograd2,
    /// Winograd's F(4×4, 3×3), likewise. Errors as above: 2·10⁻⁶; in bf16, 3·10⁻².
    Winograd4,
}

/// A convolution's weights, packed for its output.
#[derive(Debug)]
pub struct Packed {
    shape: Shape,
    weights: Weights,
}

/// A convolution's weights, packed for its input gradients.
#[derive(Debug)]
pub struct PackedTranspose {
    shape: Shape,
    weights: [Option<Weights>; 2],
}

/// Weights as one of the algorithms reads them.
#[derive(Debug)]
enum Weights {
    Direct(Matrix),
    Winograd(Filters),
}

impl Weights {
    fn gather(
        &self,
        axes: &[Axis; 2],
        batch: usize,
        source: Source,
        epilogue: Epilogue,
        output: &mut [f32],
        channels: usize,
    ) {
        match self {
            Self::Direct(weights) => {
                gather(axes, batch, source, weights, epilogue, output, channels);
            }
            Self::Winograd(weights) => {
                winograd::gather(axes, batch, source, weights, epilogue, output, channels);
            }
        }
    }
}

impl Conv {
    /// A convolution of that shape.
    ///
    /// # Errors
    /// If the shape is none of a convolution.
    pub fn new(shape: Shape) -> Result<Self, ShapeError> {
        let axes = shape.axes()?;
        let transposed = axes.each_ref().map(Axis::transpose);
        Ok(Self {
            shape,
            axes,
            transposed,
        })
    }

    /// The sizes it was made from.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Rows and columns of the output.
    pub fn output_size(&self) -> [usize; 2] {
        self.axes.each_ref().map(|axis| axis.output)
    }

    /// Packs `weights` (`[out, in, kernel height, kernel width]`) for [`Conv::forward`].
    ///
    /// # Panics
    /// If there are not as many weights.
    pub fn pack(
        &self,
        isa: Isa,
        precision: Precision,
        algorithm: Algorithm,
        weights: &[f32],
    ) -> Packed {
        self.check_weights(weights);
        let isa = precision.on(isa);
        let [element, channel, filter] = self.strides();
        let strides = Strides {
            summed: channel,
            kept: filter,
            row: element,
        };
        let outputs = self.shape.out_channels;
        let channels = [
            self.shape.in_channels[0],
            self.shape.in_channels[1],
            outputs,
        ];
        let axes = &self.axes;
        let tile = tile(isa, precision, algorithm, axes, channels);
        let summed = self.shape.in_channels;
        let kept = 0..outputs;
        Packed {
            shape: self.shape,
            weights: pack(isa, precision, tile, axes, weights, strides, summed, kept),
        }
    }

    /// Packs `weights` (`[out, in, kernel height, kernel width]`) for [`Conv::input_gradient`].
    ///
    /// # Panics
    /// If there are not as many weights.
    pub fn pack_transpose(
        &self,
        isa: Isa,
        precision: Precision,
        algorithm: Algorithm,
        weights: &[f32],
    ) -> PackedTranspose {
        self.check_weights(weights);
        let isa = precision.on(isa);
        let [element, channel, filter] = self.strides();
        let strides = Strides {
            summed: filter,
            kept: channel,
            row: element,
        };
        let outputs = self.shape.out_channels;
        let [first, second] = self.shape.in_channels;
        let weights = [0..first, first..first + second].map(|kept| {
            let axes = &self.transposed;
            let tile = tile(isa, precision, algorithm, axes, [outputs, 0, kept.len()]);
            let summed = [outputs, 0];
            (!kept.is_empty())
                .then(|| pack(isa, precision, tile, axes, weights, strides, summed, kept))
        });
        PackedTranspose {
            shape: self.shape,
            weights,
        }
    }

    /// y = conv(x, x2) + bias + shift + residual.
    ///
    /// `inputs` are x and x2 (empty where there is none); `y` is `[batch, height, width, out]` of
    /// [`Conv::output_size`].
    ///
    /// # Panics
    /// If a slice has another length than that, or the weights were packed for another shape.
    pub fn forward(
        &self,
        weights: &Packed,
        inputs: [&[f32]; 2],
        epilogue: Epilogue,
        y: &mut [f32],
    ) {
        self.check_packed(&weights.shape);
        let batch = self.batch(y.len());
        self.check_inputs(batch, inputs.map(<[f32]>::len));
        let channels = self.shape.out_channels;
        for (name, slice, len) in [
            ("bias", epilogue.bias, channels),
            ("shift", epilogue.shift, batch * channels),
            ("residual", epilogue.residual, y.len()),
        ] {
            if let Some(slice) = slice {
                assert_eq!(slice.len(), len, "length of the {name}");
            }
        }
        let source = Source {
            images: inputs,
            channels: self.shape.in_channels,
        };
        let axes = &self.axes;
        (weights.weights).gather(axes, batch, source, epilogue, y, channels);
    }

    /// The gradients of the inputs x and x2, from `dy`, that of the output; `None` where it is
    /// not wanted.
    ///
    /// # Panics
    /// If a slice has another length than its image's, or the weights were packed for another shape.
    pub fn input_gradient(
        &self,
        weights: &PackedTranspose,
        dy: &[f32],
        gradients: [Option<&mut [f32]>; 2],
    ) {
        self.check_packed(&weights.shape);
        let batch = self.batch(dy.len());
        let source = Source {
            images: [dy, &[]],
            channels: [self.shape.out_channels, 0],
        };
        let lens = self.input_lens(batch);
        for (k, (gradient, weights)) in gradients.into_iter().zip(&weights.weights).enumerate() {
            let Some(gradient) = gradient else { continue };
            assert_eq!(gradient.len(), lens[k], "length of dx[{k}]");
            if let Some(weights) = weights {
                let nothing = Epilogue::default();
                let (axes, channels) = (&self.transposed, self.shape.in_channels[k]);
                weights.gather(axes, batch, source, nothing, gradient, channels);
            }
        }
    }

    /// The gradient of the weights, `[out, in, kernel height, kernel width]`.
    ///
    /// # Panics
    /// If a slice has another length than its tensor.
    pub fn weight_gradient(
        &self,
        isa: Isa,
        precision: Precision,
        algorithm: Algorithm,
        inputs: [&[f32]; 2],
        dy: &[f32],
        dw: &mut [f32],
    ) {
        let isa = precision.on(isa);
        let batch = self.batch(dy.len());
        self.check_inputs(batch, inputs.map(<[f32]>::len));
        self.check_weights(dw);
        let source = Source {
            images: inputs,
            channels: self.shape.in_channels,
        };
        let [first, second] = self.shape.in_channels;
        let channels = [first, second, self.shape.out_channels];
        weight::gradient(
            isa,
            precision,
            tile(isa, precision, algorithm, &self.axes, channels),
            &self.axes,
            batch,
            source,
            dy,
            self.shape.out_channels,
            dw,
            self.strides(),
        );
    }

    fn inputs(&self) -> usize {
        self.shape.in_channels[0] + self.shape.in_channels[1]
    }

    /// Floats from a weight to the next kernel row, input channel, output channel.
    fn strides(&self) -> [usize; 3] {
        let [rows, cols] = self.shape.kernel;
        [cols, rows * cols, rows * cols * self.inputs()]
    }

    /// The batch size of an output of `len` floats.
    fn batch(&self, len: usize) -> usize {
        let image = self.axes[0].output * self.axes[1].output * self.shape.out_channels;
        assert_eq!(
            len % image,
            0,
            "an output of whole images of {image} floats"
        );
        len / image
    }

    /// Floats of both inputs.
    fn input_lens(&self, batch: usize) -> [usize; 2] {
        let [height, width] = self.shape.size;
        let len = |channels| tensor_len("convolution", &[batch, height, width, channels]);
        self.shape.in_channels.map(len)
    }

    fn check_inputs(&self, batch: usize, lens: [usize; 2]) {
        assert_eq!(lens, self.input_lens(batch), "lengths of the inputs");
    }

    /// What lies where in packed weights follows from the shape: with those of another one, two tasks
    /// would write the same pixel.
    fn check_packed(&self, shape: &Shape) {
        assert_eq!(
            shape, &self.shape,
            "the weights were packed for another convolution"
        );
    }

    fn check_weights(&self, weights: &[f32]) {
        let len = self.shape.out_channels * self.strides()[2];
        assert_eq!(weights.len(), len, "length of the weights");
    }
}

/// The Winograd tile for a map between so many channels (of both inputs, of the output), if any.
fn tile(
    isa: Isa,
    precision: Precision,
    algorithm: Algorithm,
    axes: &[Axis; 2],
    channels: [usize; 3],
) -> Option<Tile> {
    if !winograd::applies(isa, precision, axes, channels) {
        return None;
    }
    match algorithm {
        Algorithm::Direct => None,
        Algorithm::Winograd2 => Some(Tile::Two),
        Algorithm::Winograd4 => Some(Tile::Four),
        Algorithm::Fastest | Algorithm::FastestOfOne => {
            if channels[0] + channels[1] < 32 || channels[2] < 32 {
                return None;
            }
            // For each pair of channels.
            let products = |tile: Option<Tile>| match tile {
                None => axes.iter().map(|axis| 3 * axis.output).product::<usize>(),
                Some(tile) => axes.iter().map(|axis| tile.products(axis.output)).product(),
            };
            let weights = |tile: Option<Tile>| tile.map_or(3, Tile::inputs).pow(2);
            let read = match algorithm {
                Algorithm::FastestOfOne => READ,
                _ => 0,
            };
            [Some(Tile::Four), Some(Tile::Two), None]
                .into_iter()
                .filter(|&tile| precision == Precision::F32 || tile != Some(Tile::Four))
                .min_by_key(|&tile| products(tile) + read * weights(tile))
                .flatten()
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "a convolution has as many parts")]
fn pack(
    isa: Isa,
    precision: Precision,
    tile: Option<Tile>,
    axes: &[Axis; 2],
    weights: &[f32],
    strides: Strides,
    summed: [usize; 2],
    kept: Range<usize>,
) -> Weights {
    match tile {
        None => Weights::Direct(Matrix::new(
            isa, precision, axes, weights, strides, summed, kept,
        )),
        Some(tile) => Weights::Winograd(Filters::new(
            isa, precision, tile, axes, weights, strides, summed, kept,
        )),
    }
}
