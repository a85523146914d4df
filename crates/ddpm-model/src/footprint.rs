//! How many numbers a network and its activations hold, known from its shape alone.

use crate::config::UNetConfig;
use crate::mlp::MlpConfig;

/// Numbers that a network needs in memory: lower bounds, found before anything is allocated.
///
/// The counts leave out biases, norms and embeddings of times and classes, and what operations need
/// in passing. They are `f64`, because a configuration may ask for more than any integer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Footprint {
    /// Weights.
    pub parameters: f64,
    /// Values per row that the forward pass keeps for the backward pass.
    pub activations: f64,
    /// Values per row that a forward pass without a backward pass holds at once.
    pub forward: f64,
}

impl UNetConfig {
    /// What the network needs, for images `[C, H, W]` and as many channels of output.
    ///
    /// Takes time for each level, not for each block, because a configuration may ask for any number
    /// of blocks.
    ///
    /// # Panics
    ///
    /// If [`check`](Self::check) refuses the configuration.
    pub fn footprint(&self, [image_channels, height, width]: [usize; 3]) -> Footprint {
        let mut count = Count {
            temb: self.time_embed_dim() as f64,
            mask: if self.dropout > 0.0 { 1.0 } else { 0.0 },
            found: Footprint::default(),
        };
        let channels: Vec<f64> = (self.block_out_channels.iter())
            .map(|&c| c as f64)
            .collect();
        let layers = self.layers_per_block as f64;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let mut pixels = height as f64 * width as f64;
        for (level, &c) in channels.iter().enumerate() {
            let before = channels[level.saturating_sub(1)];
            let after = *channels.get(level + 1).unwrap_or(&last);
            let (down, up) = (self.attention[level], self.up_attention()[level]);
            count.blocks(1.0, [before, 0.0], c, pixels, down);
            count.blocks(layers - 1.0, [c, 0.0], c, pixels, down);
            // On the way up each block also reads what the way down kept.
            count.blocks(1.0, [after, c], c, pixels, up);
            count.blocks(layers - 1.0, [c, c], c, pixels, up);
            count.blocks(1.0, [c, before], c, pixels, up);
            if level + 1 < channels.len() {
                pixels /= 4.0;
            }
        }
        count.blocks(1.0, [last, 0.0], last, pixels, self.mid_attention);
        count.blocks(1.0, [last, 0.0], last, pixels, false);
        // Each level but the last is halved, each but the first doubled.
        let resampled: f64 = channels.windows(2).map(|c| c[0] * c[0] + c[1] * c[1]).sum();
        let ends = 2.0 * image_channels as f64 * first;
        count.found.parameters += count.temb * count.temb + 9.0 * (resampled + ends);
        count.found
    }
}

/// The count of a U-Net so far.
struct Count {
    /// Length of the time vector.
    temb: f64,
    /// 1 if there are dropout masks.
    mask: f64,
    found: Footprint,
}

impl Count {
    /// Adds `count` residual blocks with `output` channels, each with attention if `attends`. A block
    /// reads `own` channels and, on the way up, `skip` channels.
    fn blocks(
        &mut self,
        count: f64,
        [own, skip]: [f64; 2],
        output: f64,
        pixels: f64,
        attends: bool,
    ) {
        let input = own + skip;
        let shortcut = if input == output { 0.0 } else { input * output };
        let attention = if attends { output } else { 0.0 };
        let convolutions = 9.0 * (input + output) * output;
        let parameters = convolutions + self.temb * output + shortcut + 4.0 * attention * output;
        // A block keeps the inputs of its two norms, which its convolutions read, and dropout's mask.
        // Skip inputs are not counted: the way down already keeps them.
        let kept = own + output + self.mask * output + 6.0 * attention;
        // The input, and the output of the first convolution.
        let held = pixels * (input + output);
        let found = &mut self.found;
        found.parameters += count * parameters;
        found.activations += count * pixels * kept;
        found.forward = found.forward.max(held);
    }
}

impl MlpConfig {
    /// What the network needs, whatever the length of its points.
    pub fn footprint(&self) -> Footprint {
        let (hidden, layers) = (self.hidden as f64, self.layers as f64);
        Footprint {
            // Two layers and the projection of time.
            parameters: 3.0 * hidden * hidden * layers,
            activations: 4.0 * hidden * layers,
            forward: 2.0 * hidden,
        }
    }
}
