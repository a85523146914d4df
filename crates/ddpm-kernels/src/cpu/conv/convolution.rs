//! A convolution of given sizes: packing its weights, and its three maps.

use std::ops::Range;

use super::algorithm::Algorithm;
use super::axis::Axis;
use super::blocks::blocks;
use super::direct::{self, DirectWeights};
use super::epilogue::Epilogue;
use super::map::{ImageMap, Source, Strides, WeightGradient};
use super::shape::{Shape, ShapeError};
use super::winograd::{self, Filters, Variant};
use crate::cpu::isa::Isa;
use crate::cpu::lengths::tensor_len;
use crate::cpu::precision::Precision;
use crate::cpu::simd::lanes;

/// A convolution of images `[batch, height, width, channels]`.
///
/// The input may be two tensors, side by side in channels; they are never concatenated. The methods
/// accept any batch size.
#[derive(Clone, Debug)]
pub struct Conv {
    shape: Shape,
    axes: [Axis; 2],
    transposed: [Axis; 2],
}

/// A convolution's weights, packed for its output.
#[derive(Debug)]
pub struct Packed {
    shape: Shape,
    weights: AlgorithmWeights,
}

/// A convolution's weights, packed for its input gradients.
#[derive(Debug)]
pub struct PackedTranspose {
    shape: Shape,
    /// For each input that has channels.
    weights: [Option<AlgorithmWeights>; 2],
}

/// Weights in the order in which one of the algorithms reads them.
#[derive(Debug)]
enum AlgorithmWeights {
    Direct(DirectWeights),
    Winograd(Filters),
}

impl AlgorithmWeights {
    /// Packs the channels `kept` of `weights` for the map `axes`, which sums over `summed` channels
    /// of two inputs; for Winograd's algorithm if there is a `variant`.
    fn new(
        target: (Isa, Precision),
        variant: Option<Variant>,
        axes: &[Axis; 2],
        weights: &[f32],
        strides: Strides,
        summed: [usize; 2],
        kept: Range<usize>,
    ) -> Self {
        match variant {
            None => Self::Direct(DirectWeights::new(
                target, axes, weights, strides, summed, kept,
            )),
            Some(variant) => Self::Winograd(Filters::new(
                target, variant, axes, weights, strides, summed, kept,
            )),
        }
    }

    fn convolve(&self, map: &ImageMap<'_>, output: &mut [f32]) {
        match self {
            Self::Direct(weights) => direct::convolve(map, weights, output),
            Self::Winograd(filters) => winograd::convolve(map, filters, output),
        }
    }
}

impl Conv {
    /// A convolution of that shape.
    ///
    /// # Errors
    ///
    /// If the shape is invalid.
    pub fn new(shape: Shape) -> Result<Self, ShapeError> {
        let axes = shape.axes()?;
        let transposed = axes.each_ref().map(Axis::transpose);
        Ok(Self {
            shape,
            axes,
            transposed,
        })
    }

    /// The shape from which the convolution was made.
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
    ///
    /// If the number of weights does not match the shape.
    pub fn pack(
        &self,
        isa: Isa,
        precision: Precision,
        algorithm: Algorithm,
        weights: &[f32],
    ) -> Packed {
        self.check_weights(weights);
        let target = (precision.on(isa), precision);
        let [row, channel, filter] = self.strides();
        let strides = Strides {
            summed: channel,
            kept: filter,
            row,
        };
        let (axes, outputs) = (&self.axes, self.shape.out_channels);
        let summed @ [first, second] = self.shape.in_channels;
        let variant = algorithm.variant(target, axes, [first, second, outputs]);
        Packed {
            shape: self.shape,
            weights: AlgorithmWeights::new(
                target,
                variant,
                axes,
                weights,
                strides,
                summed,
                0..outputs,
            ),
        }
    }

    /// Packs `weights` (`[out, in, kernel height, kernel width]`) for [`Conv::input_gradient`].
    ///
    /// # Panics
    ///
    /// If the number of weights does not match the shape.
    pub fn pack_transpose(
        &self,
        isa: Isa,
        precision: Precision,
        algorithm: Algorithm,
        weights: &[f32],
    ) -> PackedTranspose {
        self.check_weights(weights);
        let target = (precision.on(isa), precision);
        let [row, channel, filter] = self.strides();
        let strides = Strides {
            summed: filter,
            kept: channel,
            row,
        };
        let (axes, outputs) = (&self.transposed, self.shape.out_channels);
        let [first, second] = self.shape.in_channels;
        let weights = [0..first, first..first + second].map(|kept| {
            let variant = algorithm.variant(target, axes, [outputs, 0, kept.len()]);
            let summed = [outputs, 0];
            (!kept.is_empty()).then(|| {
                AlgorithmWeights::new(target, variant, axes, weights, strides, summed, kept)
            })
        });
        PackedTranspose {
            shape: self.shape,
            weights,
        }
    }

    /// y = conv(x, x2) + bias + shift + residual.
    ///
    /// `inputs` are x and x2, an empty slice if there is no x2; `y` is `[batch, height, width, out]`
    /// with the [`Conv::output_size`].
    ///
    /// # Panics
    ///
    /// If the length of a slice does not match, or the weights were packed for another shape.
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
        let map = ImageMap {
            axes: &self.axes,
            batch,
            source: Source {
                images: inputs,
                channels: self.shape.in_channels,
            },
            epilogue,
            channels,
        };
        weights.weights.convolve(&map, y);
    }

    /// The gradients of the inputs x and x2, from `dy`, the gradient of the output; `None` for a
    /// gradient that is not wanted.
    ///
    /// # Panics
    ///
    /// If the length of a slice does not match, or the weights were packed for another shape.
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
                let map = ImageMap {
                    axes: &self.transposed,
                    batch,
                    source,
                    epilogue: Epilogue::default(),
                    channels: self.shape.in_channels[k],
                };
                weights.convolve(&map, gradient);
            }
        }
    }

    /// The gradient of the weights, `[out, in, kernel height, kernel width]`.
    ///
    /// # Panics
    ///
    /// If the length of a slice does not match.
    pub fn weight_gradient(
        &self,
        isa: Isa,
        precision: Precision,
        algorithm: Algorithm,
        inputs: [&[f32]; 2],
        dy: &[f32],
        dw: &mut [f32],
    ) {
        let target @ (isa, _) = (precision.on(isa), precision);
        let batch = self.batch(dy.len());
        self.check_inputs(batch, inputs.map(<[f32]>::len));
        self.check_weights(dw);
        let axes = &self.axes;
        let gradient = WeightGradient {
            axes,
            batch,
            source: Source {
                images: inputs,
                channels: self.shape.in_channels,
            },
            dy,
            channels: self.shape.out_channels,
        };
        let [first, second] = self.shape.in_channels;
        let blocks = blocks(isa, self.shape.out_channels);
        let channels = [first, second, self.shape.out_channels];
        let shares = match algorithm.variant(target, axes, channels) {
            None => direct::weight_gradient(target, &gradient, &blocks),
            Some(variant) => winograd::weight_gradient(target, variant, &gradient, &blocks),
        };
        shares.write(axes, &blocks, lanes(isa), dw, self.strides());
    }

    fn inputs(&self) -> usize {
        self.shape.in_channels[0] + self.shape.in_channels[1]
    }

    /// Floats from a weight to the next kernel row, to the next input channel and to the next output
    /// channel.
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

    /// The length of each input.
    fn input_lens(&self, batch: usize) -> [usize; 2] {
        let [height, width] = self.shape.size;
        let len = |channels| tensor_len("convolution", &[batch, height, width, channels]);
        self.shape.in_channels.map(len)
    }

    fn check_inputs(&self, batch: usize, lens: [usize; 2]) {
        assert_eq!(lens, self.input_lens(batch), "lengths of the inputs");
    }

    /// The layout of packed weights follows from the shape: with the weights of another shape, two tasks
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
