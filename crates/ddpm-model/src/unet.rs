//! The U-Net of Ho et al. 2020.

use burn::module::Module;
use burn::nn::{Embedding, GroupNorm, conv::Conv2d};
use burn::tensor::{Device, Tensor};

use crate::block::{DownBlock, MidBlock, UpBlock};
use crate::condition::{Condition, ConditionSpec};
use crate::config::UNetConfig;
use crate::embedding::{TimeEmbedding, sinusoidal_embedding};
use crate::error::ModelError;
use crate::init::Init;
use crate::layer::{Activation, After, conv, normed};
use crate::network::{Masks, Network};

impl UNetConfig {
    /// Builds the network with weights drawn from `seed`, the same on every device.
    ///
    /// * `channels`: those of the input and of the output. The output has as many as the image, or
    ///   twice as many if the network predicts the variance too.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check) and [`check_channels`](Self::check_channels).
    pub fn init(
        &self,
        channels: [usize; 2],
        seed: u64,
        device: &Device,
    ) -> Result<UNet, ModelError> {
        self.check()?;
        Self::check_channels(channels)?;
        Ok(self.build(channels, &mut Init::new(seed, device)))
    }

    fn build(&self, [input, output]: [usize; 2], init: &mut Init) -> UNet {
        let channels = &self.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let temb = self.time_embed_dim();

        let conv_in = init.conv(input, first, 3);
        let time_embedding = TimeEmbedding::new(init, first, temb);
        let class_embedding = self.class_rows().map(|n| init.embedding(n, temb));

        let mut x = first;
        let mut skips = vec![first];
        let mut down_blocks = Vec::new();
        for (level, &output) in channels.iter().enumerate() {
            down_blocks.push(DownBlock::new(init, self, level, x));
            let halving = usize::from(level + 1 < channels.len());
            skips.extend(std::iter::repeat_n(output, self.layers_per_block + halving));
            x = output;
        }
        let mid_block = MidBlock::new(init, self, last);
        let mut skips = skips.into_iter().rev();
        let mut up_blocks = Vec::new();
        for level in (0..channels.len()).rev() {
            up_blocks.push(UpBlock::new(init, self, level, x, skips.by_ref()));
            x = channels[level];
        }

        UNet {
            conv_in,
            time_embedding,
            class_embedding,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: init.group_norm(self.norm_num_groups, first, self.norm_eps),
            conv_out: init.zero_conv(first, output, 3),
            activation: self.activation,
            center_input_sample: self.center_input_sample,
            flip_sin_to_cos: self.flip_sin_to_cos,
            freq_shift: self.freq_shift,
        }
    }
}

/// The U-Net; made by [`UNetConfig::init`].
#[derive(Module, Debug)]
pub struct UNet {
    conv_in: Conv2d,
    time_embedding: TimeEmbedding,
    class_embedding: Option<Embedding>,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    #[module(skip)]
    activation: Activation,
    center_input_sample: bool,
    flip_sin_to_cos: bool,
    freq_shift: f64,
}

impl UNet {
    /// Channels of the input and of the output.
    pub fn channels(&self) -> [usize; 2] {
        let (input, output) = (&self.conv_in.weight, &self.conv_out.weight);
        [input.lazy_shape()[1], output.lazy_shape()[0]]
    }
}

impl Network<4> for UNet {
    /// A class, if the network has classes ([`UNetConfig::class_rows`]).
    fn takes(&self) -> ConditionSpec {
        match &self.class_embedding {
            Some(embedding) => ConditionSpec::none().with_classes(embedding.weight.lazy_shape()[0]),
            None => ConditionSpec::none(),
        }
    }

    /// `[B, in_channels, H, W]` → `[B, out_channels, H, W]`, H and W divisible as
    /// [`check_image_size`](UNetConfig::check_image_size) says.
    fn predict(
        &self,
        x_t: Tensor<4>,
        t: Tensor<1>,
        condition: &Condition,
        mut masks: Option<&mut Masks>,
    ) -> Tensor<4> {
        self.takes().assert(condition, x_t.dims()[0]);
        let dim = self.conv_in.weight.dims()[0];
        let features = sinusoidal_embedding(t, dim, self.flip_sin_to_cos, self.freq_shift);
        let mut temb = self.time_embedding.forward(features);
        if let (Some(embedding), Some(class)) = (&self.class_embedding, &condition.class) {
            let class = embedding.forward(class.clone().unsqueeze_dim::<2>(1));
            temb = temb + class.squeeze_dim::<2>(1);
        }

        // The blocks read the activated time vector, and images with their channels last.
        let temb = self.activation.of(temb);
        let x = x_t.permute([0, 2, 3, 1]);
        let x = if self.center_input_sample {
            x * 2.0 - 1.0
        } else {
            x
        };
        let mut x = conv(&self.conv_in, x, None, None);
        let mut skips = vec![x.clone()];
        for block in &self.down_blocks {
            x = block.forward(x, &temb, &mut skips, &mut masks);
        }
        x = self.mid_block.forward(x, &temb, &mut masks);
        for block in &self.up_blocks {
            x = block.forward(x, &temb, &mut skips, &mut masks);
        }
        let activated = After {
            activation: Some(Activation::Silu),
            ..After::default()
        };
        let x = normed(&self.conv_norm_out, x, activated);
        conv(&self.conv_out, x, None, None).permute([0, 3, 1, 2])
    }
}
