//! Initial weights. They come from one stream of random numbers, in the order in which layers are
//! built. A weight is drawn on the host when it is first read.

use burn::module::{Param, ParamId};
use burn::nn::{Embedding, GroupNorm, GroupNormConfig, Linear, PaddingConfig2d, conv::Conv2d};
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// Builds layers with the initialisation of Ho et al. 2020: weights uniform with the variance
/// 2/(fan_in + fan_out), biases zero, and the last layer of every residual branch zero, so that
/// each branch starts as the identity.
///
/// So a network whose weights are loaded draws none, and takes no memory before they are loaded.
pub(crate) struct Init<'a> {
    rng: ChaCha8Rng,
    device: &'a Device,
}

impl<'a> Init<'a> {
    pub(crate) fn new(seed: u64, device: &'a Device) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..12].copy_from_slice(b"init");
        Self {
            rng: ChaCha8Rng::from_seed(key),
            device,
        }
    }

    pub(crate) fn linear(&mut self, input: usize, output: usize) -> Linear {
        Linear {
            weight: self.uniform([input, output], input, output),
            bias: Some(self.zeros([output])),
        }
    }

    pub(crate) fn zero_linear(&mut self, input: usize, output: usize) -> Linear {
        Linear {
            weight: self.zeros([input, output]),
            bias: Some(self.zeros([output])),
        }
    }

    /// A `kernel`×`kernel` convolution of stride 1 that keeps the size of the image.
    pub(crate) fn conv(&mut self, input: usize, output: usize, kernel: usize) -> Conv2d {
        let area = kernel * kernel;
        let weight = self.uniform([output, input, kernel, kernel], input * area, output * area);
        self.conv_of(weight, output, kernel)
    }

    /// As [`conv`](Self::conv), with all weights zero.
    pub(crate) fn zero_conv(&mut self, input: usize, output: usize, kernel: usize) -> Conv2d {
        let weight = self.zeros([output, input, kernel, kernel]);
        self.conv_of(weight, output, kernel)
    }

    fn conv_of(&mut self, weight: Param<Tensor<4>>, output: usize, kernel: usize) -> Conv2d {
        let pad = kernel / 2;
        Conv2d {
            weight,
            bias: Some(self.zeros([output])),
            stride: [1, 1],
            kernel_size: [kernel, kernel],
            dilation: [1, 1],
            groups: 1,
            padding: PaddingConfig2d::Explicit(pad, pad, pad, pad),
        }
    }

    pub(crate) fn group_norm(&self, groups: usize, channels: usize, eps: f64) -> GroupNorm {
        GroupNormConfig::new(groups, channels)
            .with_epsilon(eps)
            .init(self.device)
    }

    /// Class vectors whose entries have variance 1, as in PyTorch's embeddings.
    pub(crate) fn embedding(&mut self, rows: usize, dim: usize) -> Embedding {
        Embedding {
            weight: self.uniform([rows, dim], 1, 1),
        }
    }

    fn zeros<const D: usize>(&self, shape: [usize; D]) -> Param<Tensor<D>> {
        self.param(shape, move |device| Tensor::zeros(shape, device))
    }

    /// U(−l, l) with l²/3 = 2/(fan_in + fan_out). Each value takes one word of the stream.
    #[allow(clippy::cast_possible_truncation)]
    fn uniform<const D: usize>(
        &mut self,
        shape: [usize; D],
        fan_in: usize,
        fan_out: usize,
    ) -> Param<Tensor<D>> {
        let limit = (6.0 / (fan_in + fan_out) as f64).sqrt();
        let count: usize = shape.iter().product();
        let mut rng = self.rng.clone();
        self.rng
            .set_word_pos(self.rng.get_word_pos() + count as u128);
        self.param(shape, move |device| {
            let values: Vec<f32> = (0..count)
                .map(|_| {
                    let unit = (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0;
                    (limit * (2.0 * unit - 1.0)) as f32
                })
                .collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        })
    }

    fn param<const D: usize>(
        &self,
        shape: [usize; D],
        value: impl FnOnce(&Device) -> Tensor<D> + Send + Sync + 'static,
    ) -> Param<Tensor<D>> {
        Param::uninitialized(
            ParamId::new(),
            |device, grad| value(device).set_require_grad(grad),
            self.device.clone(),
            true,
            shape.into(),
        )
    }
}
