//! A small network for points. It trains in seconds, so tests use it.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, activation::silu};
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::embedding::{TimeEmbedding, sinusoidal_embedding};
use crate::error::{ModelError, count};
use crate::init::Init;
use crate::network::{Masks, Network};

/// The shape of an [`Mlp`]. The length of its points comes from the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpConfig {
    /// Width of the hidden layers; even.
    pub hidden: usize,
    /// Residual blocks.
    pub layers: usize,
}

impl MlpConfig {
    /// Checks that a network of this shape can be built.
    ///
    /// # Errors
    ///
    /// If a count is zero or `hidden` is odd or below 4.
    pub fn check(&self) -> Result<(), ModelError> {
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
    /// * `features`: numbers of a point, and of the output. The output has as many as the point, or
    ///   twice as many if the network predicts the variance too.
    ///
    /// # Errors
    ///
    /// If a number of features is zero, and as [`check`](Self::check).
    pub fn init(
        &self,
        [input, output]: [usize; 2],
        seed: u64,
        device: &Device,
    ) -> Result<Mlp, ModelError> {
        self.check()?;
        count("features", input)?;
        count("out_features", output)?;
        let init = &mut Init::new(seed, device);
        Ok(Mlp {
            linear_in: init.linear(input, self.hidden),
            time_embedding: TimeEmbedding::new(init, self.hidden, self.hidden),
            blocks: (0..self.layers)
                .map(|_| MlpBlock {
                    linear_1: init.linear(self.hidden, self.hidden),
                    time_emb_proj: init.linear(self.hidden, self.hidden),
                    linear_2: init.zero_linear(self.hidden, self.hidden),
                })
                .collect(),
            linear_out: init.zero_linear(self.hidden, output),
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

impl Network<2> for Mlp {
    /// `[B, features]` → `[B, out_features]`, without conditions and without dropout.
    fn predict(
        &self,
        x_t: Tensor<2>,
        t: Tensor<1>,
        condition: &Condition,
        _masks: Option<&mut Masks>,
    ) -> Tensor<2> {
        self.takes().assert(condition, x_t.dims()[0]);
        let [_, hidden] = self.linear_in.weight.dims();
        let temb = silu(
            self.time_embedding
                .forward(sinusoidal_embedding(t, hidden, false, 1.0)),
        );
        let mut h = self.linear_in.forward(x_t);
        for block in &self.blocks {
            let inner = block.linear_1.forward(silu(h.clone()));
            let inner = silu(inner + block.time_emb_proj.forward(temb.clone()));
            h = h + block.linear_2.forward(inner);
        }
        self.linear_out.forward(silu(h))
    }
}
