//! How much memory a training takes, estimated before any of it is allocated.

use ddpm_model::{MlpConfig, UNetConfig};

use crate::plan::{NetworkPlan, Plan};

/// A configuration that asks for more memory than there is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "training takes {:.1} GiB at least ({parameters:.2e} parameters, {:.1} GiB of activations), and \
     this machine has {:.1} GiB: choose a smaller model or batch_size, or a larger accumulate",
    gib(*needed), gib(*activations), gib(*available)
)]
pub struct MemoryError {
    /// Bytes needed.
    pub needed: f64,
    /// Of these, bytes of activations.
    pub activations: f64,
    /// Weights of the network.
    pub parameters: f64,
    /// Bytes that the machine has.
    pub available: f64,
}

fn gib(bytes: f64) -> f64 {
    bytes / (1_u64 << 30) as f64
}

/// Numbers a network needs. They are `f64`, for what a file asks for may exceed every integer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Needs {
    /// Weights.
    parameters: f64,
    /// Values kept from the forward pass for the backward pass, for each row.
    activations: f64,
}

/// Bytes of an f32.
const FLOAT: f64 = 4.0;

/// Copies of the weights while training goes on beside a checkpoint being written: themselves, their
/// gradients, the two moments, the average; and the checkpoint's four on the host.
const COPIES: f64 = 9.0;

/// Whether the machine has the memory for training a plan on rows of `shape`. Where its memory is
/// not known, it is taken to suffice.
///
/// The estimate is a lower bound: convolutions and attention of the network and their inputs, and
/// none of what the operations need in passing.
///
/// # Errors
///
/// If it has not.
pub fn check(plan: &Plan, shape: &[usize]) -> Result<(), MemoryError> {
    match total() {
        Some(available) => check_within(plan, shape, available),
        None => Ok(()),
    }
}

fn check_within(plan: &Plan, shape: &[usize], available: f64) -> Result<(), MemoryError> {
    let needs = match (&plan.network, shape) {
        (NetworkPlan::UNet(config), &[channels, height, width]) => {
            unet(config, channels, height as f64 * width as f64)
        }
        (NetworkPlan::Mlp(config), _) => mlp(config),
        // The network will be refused for its kind.
        _ => return Ok(()),
    };
    let config = &plan.config;
    let part = config.batch_size as f64 / config.accumulate as f64;
    let row: f64 = shape.iter().map(|&n| n as f64).product();
    let activations = FLOAT * part * needs.activations;
    let batch = FLOAT * config.batch_size as f64 * row;
    let needed = COPIES * FLOAT * needs.parameters + activations + batch;
    if needed <= available {
        return Ok(());
    }
    Err(MemoryError {
        needed,
        activations,
        parameters: needs.parameters,
        available,
    })
}

fn unet(config: &UNetConfig, image_channels: usize, mut pixels: f64) -> Needs {
    let mut needs = Needs::default();
    // A 3×3 convolution, which keeps its input for the gradient of its weights.
    let mut conv = |input: f64, output: f64, pixels: f64| {
        needs.parameters += 9.0 * input * output;
        needs.activations += input * pixels;
    };
    let temb = config.time_embed_dim() as f64;
    let mut projections = 0.0;
    // Each convolution of a residual block comes after a norm, which keeps its own input.
    let mut block = |input: f64, output: f64, pixels: f64, attends: bool| {
        conv(input, output, pixels);
        conv(output, output, pixels);
        projections += temb * output + if input == output { 0.0 } else { input * output };
        let (norms, attention) = (input + output, if attends { 6.0 * output } else { 0.0 });
        projections += if attends { 4.0 * output * output } else { 0.0 };
        (norms + attention) * pixels
    };
    let channels: Vec<f64> = config
        .block_out_channels
        .iter()
        .map(|&c| c as f64)
        .collect();
    let (mut kept, mut x, mut skips) = (0.0, channels[0], vec![channels[0]]);
    for (level, &output) in channels.iter().enumerate() {
        for _ in 0..config.layers_per_block {
            kept += block(x, output, pixels, config.attention[level]);
            x = output;
            skips.push(x);
        }
        if level + 1 < channels.len() {
            pixels /= 4.0;
            skips.push(x);
        }
    }
    kept += block(x, x, pixels, config.mid_attention) + block(x, x, pixels, false);
    for (level, &output) in channels.iter().enumerate().rev() {
        for _ in 0..=config.layers_per_block {
            let skip = skips.pop().unwrap_or_default();
            kept += block(x + skip, output, pixels, config.up_attention()[level]);
            x = output;
        }
        if level > 0 {
            pixels *= 4.0;
        }
    }
    let resampling: f64 = channels.iter().map(|c| 9.0 * c * c).sum();
    let ends = 18.0 * image_channels as f64 * channels[0];
    needs.parameters += projections + 2.0 * resampling + ends + temb * temb;
    needs.activations += kept;
    needs
}

fn mlp(config: &MlpConfig) -> Needs {
    let (hidden, layers) = (config.hidden as f64, config.layers as f64);
    Needs {
        // Two layers and the projection of time.
        parameters: 3.0 * hidden * hidden * layers,
        activations: 4.0 * hidden * layers,
    }
}

/// Bytes of memory of this machine, as Linux has them.
fn total() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024.0 * kib)
}

#[cfg(test)]
mod tests;
