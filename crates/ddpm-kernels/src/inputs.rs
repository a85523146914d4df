//! The inputs of the operations, which their gradients need again.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

use crate::arguments::NormOptions;
use crate::cpu::attention::{self, Attention};
use crate::cpu::conv::{Conv, Epilogue};
use crate::cpu::norm::{self, GroupNorm, ImageSlices, Moments};
use crate::cpu::scratch::{Scratch, unwritten};
use crate::cpu::{Isa, Precision};
use crate::host::Host;
use crate::packed::packed;
use crate::switches::Switches;

/// Sizes of a tensor of known rank.
pub(crate) fn dims<B: Host, const D: usize>(tensor: &FloatTensor<B>) -> [usize; D] {
    let shape = tensor.shape();
    std::array::from_fn(|i| shape[i])
}

/// Floats of a norm per thread that are written before a convolution reads them: its caches hold as
/// many.
const NORM_FLOATS: usize = 1 << 20;
/// Elements of a task that applies a mask.
const MASK_TASK: usize = 1 << 14;

/// The part of a tensor that belongs to some images of the batch.
fn part<'a>(x: &'a [f32], batch: usize, images: &Range<usize>) -> &'a [f32] {
    let image = x.len() / batch.max(1);
    &x[images.start * image..images.end * image]
}

fn floats<B: Host>(tensor: Option<&FloatTensor<B>>) -> Option<&[f32]> {
    tensor.map(B::floats)
}

/// The source of a convolution: images, or the norm of images, which is not kept but computed again.
#[derive(Clone, Debug)]
pub(crate) enum ConvSource<B: Host> {
    Images {
        x: FloatTensor<B>,
        x2: Option<FloatTensor<B>>,
    },
    Norm {
        inputs: NormInputs<B>,
        /// Empty before the forward pass.
        moments: Vec<Moments>,
    },
}

impl<B: Host> ConvSource<B> {
    /// Images, or their norm if `norm` has its options; otherwise the tensors of the norm are ignored.
    pub(crate) fn new(
        required: [FloatTensor<B>; 3],
        optional: [Option<FloatTensor<B>>; 3],
        norm: Option<NormOptions>,
    ) -> Self {
        if let Some(options) = norm {
            return Self::Norm {
                inputs: NormInputs::new(required, optional, options),
                moments: Vec::new(),
            };
        }
        let ([x, ..], [x2, ..]) = (required, optional);
        Self::Images { x, x2 }
    }
}

/// A convolution with its source and its weights.
#[derive(Clone, Debug)]
pub(crate) struct ConvInputs<B: Host> {
    pub(crate) source: ConvSource<B>,
    pub(crate) weight: FloatTensor<B>,
    pub(crate) conv: Conv,
    pub(crate) precision: Precision,
}

impl<B: Host> ConvInputs<B> {
    pub(crate) fn new(
        source: ConvSource<B>,
        weight: FloatTensor<B>,
        conv: Conv,
        precision: Precision,
    ) -> Self {
        let source = match source {
            ConvSource::Images { x, x2 } => ConvSource::Images {
                x: B::contiguous(x),
                x2: x2.map(B::contiguous),
            },
            norm @ ConvSource::Norm { .. } => norm,
        };
        Self {
            source,
            weight: B::contiguous(weight),
            conv,
            precision,
        }
    }

    pub(crate) fn forward(
        &mut self,
        bias: Option<FloatTensor<B>>,
        shift: Option<FloatTensor<B>>,
        residual: Option<FloatTensor<B>>,
        switches: &Switches,
    ) -> FloatTensor<B> {
        let [bias, shift, residual] = [bias, shift, residual].map(|t| t.map(B::contiguous));
        let epilogue = Epilogue {
            bias: floats::<B>(bias.as_ref()),
            shift: floats::<B>(shift.as_ref()),
            residual: floats::<B>(residual.as_ref()),
        };
        let x = match &self.source {
            ConvSource::Images { x, .. } => x,
            ConvSource::Norm { inputs, .. } => &inputs.x,
        };
        let (batch, device) = (dims::<B, 4>(x)[0], x.device());
        let [height, width] = self.conv.output_size();
        let shape = [batch, height, width, self.conv.shape().out_channels];
        #[allow(unsafe_code, reason = "the output is written once")]
        // SAFETY: a convolution writes all of its output.
        let mut y = unsafe { unwritten(shape.iter().product()) };
        let store = switches.packed.as_deref();
        let weight = packed::<B>(&self.conv, &self.weight, switches.precision, store);
        match &mut self.source {
            ConvSource::Images { x, x2 } => {
                let x2 = floats::<B>(x2.as_ref()).unwrap_or(&[]);
                (self.conv).forward(&weight, [B::floats(x), x2], epilogue, &mut y);
            }
            ConvSource::Norm { inputs, moments } => {
                let image = inputs.len() / batch.max(1);
                let count = (NORM_FLOATS * rayon::current_num_threads() / image.max(1)).max(1);
                let mut values = Scratch::take(count.min(batch) * image);
                for start in (0..batch).step_by(count) {
                    let images = start..(start + count).min(batch);
                    let values = &mut values[..images.len() * image];
                    moments.extend(inputs.write(images.clone(), values));
                    let epilogue = Epilogue {
                        bias: epilogue.bias,
                        shift: epilogue.shift.map(|x| part(x, batch, &images)),
                        residual: epilogue.residual.map(|x| part(x, batch, &images)),
                    };
                    let out = y.len() / batch;
                    let y = &mut y[images.start * out..images.end * out];
                    (self.conv).forward(&weight, [values, &[]], epilogue, y);
                }
            }
        }
        B::tensor(y, &shape, &device)
    }

    /// Calls `read` with the images that the convolution reads.
    pub(crate) fn read<T>(&self, read: impl FnOnce([&[f32]; 2]) -> T) -> T {
        match &self.source {
            ConvSource::Images { x, x2 } => {
                let x2 = floats::<B>(x2.as_ref());
                read([B::floats(x), x2.unwrap_or(&[])])
            }
            ConvSource::Norm { inputs, moments } => {
                let mut values = Scratch::take(inputs.len());
                inputs.write_again(moments, &mut values);
                read([&values, &[]])
            }
        }
    }
}

/// The inputs of a group norm.
#[derive(Clone, Debug)]
pub(crate) struct NormInputs<B: Host> {
    pub(crate) x: FloatTensor<B>,
    pub(crate) x2: Option<FloatTensor<B>>,
    pub(crate) weight: FloatTensor<B>,
    pub(crate) bias: FloatTensor<B>,
    pub(crate) scale_shift: Option<FloatTensor<B>>,
    mask: Option<FloatTensor<B>>,
    options: NormOptions,
}

/// The gradients of the inputs of a group norm.
pub(crate) struct NormInputGradients {
    pub(crate) x: Vec<f32>,
    pub(crate) x2: Option<Vec<f32>>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) scale_shift: Option<Vec<f32>>,
}

impl<B: Host> NormInputs<B> {
    /// From x, weight and bias, and from the optional x2, scale and shift, and mask.
    pub(crate) fn new(
        [x, weight, bias]: [FloatTensor<B>; 3],
        [x2, scale_shift, mask]: [Option<FloatTensor<B>>; 3],
        options: NormOptions,
    ) -> Self {
        Self {
            x: B::contiguous(x),
            x2: x2.map(B::contiguous),
            weight: B::contiguous(weight),
            bias: B::contiguous(bias),
            scale_shift: scale_shift.map(B::contiguous),
            mask: mask.map(B::contiguous),
            options,
        }
    }

    /// The norm of some of the images.
    fn norm(&self, images: &Range<usize>) -> GroupNorm<'_> {
        let [batch, height, width, _] = dims::<B, 4>(&self.x);
        GroupNorm {
            batch: images.len(),
            pixels: height * width,
            groups: self.options.groups,
            eps: self.options.eps,
            weight: B::floats(&self.weight),
            bias: B::floats(&self.bias),
            pre_shift: None,
            scale_shift: floats::<B>(self.scale_shift.as_ref()).map(|x| part(x, batch, images)),
            silu: self.options.silu,
        }
    }

    fn images(&self, images: &Range<usize>) -> ImageSlices<'_> {
        let batch = self.batch();
        ImageSlices {
            x: part(B::floats(&self.x), batch, images),
            x2: floats::<B>(self.x2.as_ref()).map(|x| part(x, batch, images)),
        }
    }

    fn batch(&self) -> usize {
        dims::<B, 4>(&self.x)[0]
    }

    /// `[B, H, W, C]` of both images together.
    fn shape(&self) -> [usize; 4] {
        let [batch, height, width, _] = dims::<B, 4>(&self.x);
        [batch, height, width, dims::<B, 1>(&self.weight)[0]]
    }

    /// The number of floats of the norm.
    pub(crate) fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Writes the norm of some images to `y`; returns the moments of their groups.
    fn write(&self, images: Range<usize>, y: &mut [f32]) -> Vec<Moments> {
        let norm = self.norm(&images);
        let mut moments = vec![Moments::default(); norm.batch * norm.groups];
        norm::forward(Isa::detect(), &norm, self.images(&images), y, &mut moments);
        self.apply_mask(&images, y);
        moments
    }

    /// Writes the norm of all images again, with the same bits as before.
    fn write_again(&self, moments: &[Moments], y: &mut [f32]) {
        let all = 0..self.batch();
        let isa = Isa::detect();
        norm::forward_again(isa, &self.norm(&all), self.images(&all), moments, y);
        self.apply_mask(&all, y);
    }

    /// Multiplies `y` by the mask of some images, if there is one.
    fn apply_mask(&self, images: &Range<usize>, y: &mut [f32]) {
        if let Some(mask) = floats::<B>(self.mask.as_ref()) {
            let mask = part(mask, self.batch(), images);
            assert_eq!(mask.len(), y.len(), "length of the mask");
            let chunks = y.par_chunks_mut(MASK_TASK).zip(mask.par_chunks(MASK_TASK));
            chunks.for_each(|(y, mask)| y.iter_mut().zip(mask).for_each(|(y, mask)| *y *= mask));
        }
    }

    pub(crate) fn forward(&self) -> (FloatTensor<B>, Vec<Moments>) {
        #[allow(unsafe_code, reason = "the output is written once")]
        // SAFETY: a norm writes all of its output.
        let mut y = unsafe { unwritten(self.len()) };
        let moments = self.write(0..self.batch(), &mut y);
        (B::tensor(y, &self.shape(), &self.x.device()), moments)
    }

    /// The gradients, from `dy`, the gradient of the output.
    pub(crate) fn gradients(&self, moments: &[Moments], dy: &[f32]) -> NormInputGradients {
        #[allow(unsafe_code, reason = "the gradients are written once")]
        // SAFETY: a norm's gradients are written whole.
        let unwritten = |t: &FloatTensor<B>| unsafe { unwritten(t.shape().num_elements()) };
        let mut gradients = NormInputGradients {
            x: unwritten(&self.x),
            x2: self.x2.as_ref().map(unwritten),
            weight: unwritten(&self.weight),
            bias: unwritten(&self.bias),
            scale_shift: self.scale_shift.as_ref().map(unwritten),
        };
        let out = norm::NormGradients {
            x: &mut gradients.x,
            x2: gradients.x2.as_deref_mut(),
            weight: &mut gradients.weight,
            bias: &mut gradients.bias,
            pre_shift: None,
            scale_shift: gradients.scale_shift.as_deref_mut(),
        };
        let all = 0..self.batch();
        let masked = self.mask.as_ref().map(|_| {
            let mut dy = dy.to_vec();
            self.apply_mask(&all, &mut dy);
            dy
        });
        let dy = masked.as_deref().unwrap_or(dy);
        let isa = Isa::detect();
        norm::backward(isa, &self.norm(&all), self.images(&all), moments, dy, out);
        gradients
    }
}

/// The inputs of attention.
#[derive(Clone, Debug)]
pub(crate) struct AttentionInputs<B: Host> {
    qkv: [FloatTensor<B>; 3],
    pub(crate) sizes: Attention,
}

impl<B: Host> AttentionInputs<B> {
    pub(crate) fn new(
        q: FloatTensor<B>,
        k: FloatTensor<B>,
        v: FloatTensor<B>,
        heads: usize,
    ) -> Self {
        let [batch, tokens, channels] = dims::<B, 3>(&q);
        assert!(
            heads > 0 && channels.is_multiple_of(heads),
            "{channels} channels do not divide into {heads} heads"
        );
        Self {
            qkv: [q, k, v].map(B::contiguous),
            sizes: Attention {
                batch,
                tokens,
                heads,
                dim: channels / heads,
            },
        }
    }

    pub(crate) fn qkv(&self) -> [&[f32]; 3] {
        self.qkv.each_ref().map(B::floats)
    }

    /// The output, and each row's log-sum-exp, which the gradients need.
    pub(crate) fn forward(&self) -> (FloatTensor<B>, Vec<f32>) {
        let Attention {
            batch,
            tokens,
            heads,
            dim,
        } = self.sizes;
        #[allow(unsafe_code, reason = "the output is written once")]
        // SAFETY: attention writes all of its output.
        let mut y = unsafe { unwritten(batch * tokens * heads * dim) };
        let mut log_sums = vec![0.0; batch * tokens * heads];
        attention::forward(
            Isa::detect(),
            &self.sizes,
            self.qkv(),
            &mut y,
            &mut log_sums,
        );
        let shape = [batch, tokens, heads * dim];
        (B::tensor(y, &shape, &self.qkv[0].device()), log_sums)
    }
}
