//! A small network for 2-D points, with which training can be tested in seconds.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, activation::silu};

use crate::embedding::{TimeEmbedding, sinusoidal_embedding};
use crate::init::Init;
use crate::{ModelError, count};

/// Shape of an [`Mlp`].
#[derive(Clone, Debug, PartialEq)]
pub struct MlpConfig {
    /// Coordinates of a point.
    pub features: usize,
    /// Numbers of the output; those of a point unless the variance is predicted too.
    pub out_features: usize,
    /// Width of the hidden layers; even.
    pub hidden: usize,
    /// Number of residual blocks.
    pub layers: usize,
}

impl MlpConfig {
    /// Whether a network of this shape can be built.
    ///
    /// # Errors
    ///
    /// If a count is zero or `hidden` is odd or below 4.
    pub fn check(&self) -> Result<(), ModelError> {
        count("features", self.features)?;
        count("out_features", self.out_features)?;
        count("hidden", self.hidden)?;
        count("layers", self.layers)?;
        if !self.hidden.is_multiple_of(2) || self.hidden < 4 {
            return Err(ModelError::Range {
                name: "hidden",
                value: self.hidden as f64,
                range: "the even numbers from 4, which the time features need",
            });
        }
        Ok(())
    }

    /// Builds the network with weights drawn from `seed`, the same on every device.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub fn init(&self, seed: u64, device: &Device) -> Result<Mlp, ModelError> {
        self.check()?;
        let init = &mut Init::new(seed, device);
        Ok(Mlp {
            linear_in: init.linear(self.features, self.hidden),
            time_embedding: TimeEmbedding::new(init, self.hidden, self.hidden),
            blocks: (0..self.layers)
                .map(|_| MlpBlock {
                    linear_1: init.linear(self.hidden, self.hidden),
                    time_emb_proj: init.linear(self.hidden, self.hidden),
                    linear_2: init.zero_linear(self.hidden, self.hidden),
                })
                .collect(),
            linear_out: init.zero_linear(self.hidden, self.out_features),
        })
    }
}

/// A time-conditioned multilayer perceptron; made by [`MlpConfig::init`].
#[derive(Module, Debug)]
pub struct Mlp {
    linear_in: Linear,
    time_embedding: TimeEmbedding,
    blocks: Vec<MlpBlock>,
    linear_out: Linear,
}

/// A residual block: the time vector is added between its two layers.
#[derive(Module, Debug)]
struct MlpBlock {
    linear_1: Linear,
    time_emb_proj: Linear,
    linear_2: Linear,
}

impl Mlp {
    /// * `x`: `[B, features]`;
    /// * `t`: `[B]`, what published checkpoints call the timestep, 0..T;
    /// * returns `[B, out_features]`.
    ///
    /// # Panics
    ///
    /// If shapes disagree.
    pub fn forward(&self, x: Tensor<2>, t: Tensor<1>) -> Tensor<2> {
        let [_, hidden] = self.linear_in.weight.dims();
        let temb = silu(
            self.time_embedding
                .forward(sinusoidal_embedding(t, hidden, false, 1.0)),
        );
        let mut h = self.linear_in.forward(x);
        for block in &self.blocks {
            let inner = block.linear_1.forward(silu(h.clone()));
            let inner = silu(inner + block.time_emb_proj.forward(temb.clone()));
            h = h + block.linear_2.forward(inner);
        }
        self.linear_out.forward(silu(h))
    }
}
