//! How much memory a training takes, estimated before any of it is allocated.

use burn::tensor::Device;
use ddpm_model::{MlpConfig, UNetConfig};

use crate::device::is_host;
use crate::plan::{NetworkPlan, Plan};

/// A configuration that asks for more memory than there is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "training takes {:.1} GiB at least ({parameters:.2e} parameters, {:.1} GiB of activations), and \
     this machine has {:.1} GiB: choose a smaller model, batch_size or sampling.count, or a larger \
     accumulate",
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

/// Whether the machine has the memory for training a plan on rows of `shape`, as one of so many
/// processes. Where its memory is not known, or the device is not computing in it, it is taken to
/// suffice.
///
/// The estimate is a lower bound: convolutions and attention of the network and their inputs, and
/// none of what the operations need in passing.
///
/// # Errors
///
/// If it has not.
pub fn check(
    plan: &Plan,
    shape: &[usize],
    processes: usize,
    device: &Device,
) -> Result<(), MemoryError> {
    match total().filter(|_| is_host(device)) {
        Some(available) => check_within(plan, shape, processes, available),
        None => Ok(()),
    }
}

/// Whether so many bytes are enough for training a plan on rows of `shape`, as one of so many
/// processes.
///
/// # Errors
///
/// If they are not.
pub fn check_within(
    plan: &Plan,
    shape: &[usize],
    processes: usize,
    available: f64,
) -> Result<(), MemoryError> {
    let needs = match (&plan.network, shape) {
        (NetworkPlan::UNet(config), &[channels, height, width]) => {
            unet(config, channels, height as f64 * width as f64)
        }
        (NetworkPlan::Mlp(config), _) => mlp(config),
        // The network will be refused for its kind.
        _ => return Ok(()),
    };
    let config = &plan.config;
    let rows = config.batch_size as f64 / processes as f64;
    let part = rows / config.accumulate as f64;
    let row: f64 = shape.iter().map(|&n| n as f64).product();
    let activations = FLOAT * part * needs.activations;
    let batch = FLOAT * rows * row;
    // Pictures are drawn when a step's activations are gone.
    let drawn = if config.sampling.every > 0 {
        FLOAT * config.sampling.count as f64 * row
    } else {
        0.0
    };
    let needed = COPIES * FLOAT * needs.parameters + (activations + batch).max(drawn);
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

/// A U-Net on images of so many channels and pixels. Blocks that are alike are counted, not visited,
/// for a file may ask for any number of them.
fn unet(config: &UNetConfig, image_channels: usize, mut pixels: f64) -> Needs {
    let temb = config.time_embed_dim() as f64;
    let channels: Vec<f64> = config
        .block_out_channels
        .iter()
        .map(|&c| c as f64)
        .collect();
    let layers = config.layers_per_block as f64;
    let (first, last) = (channels[0], channels[channels.len() - 1]);
    let mut needs = Needs {
        parameters: temb * temb + 18.0 * image_channels as f64 * first,
        activations: 0.0,
    };
    // A residual block keeps the inputs of its two norms, which its convolutions read, and dropout's
    // mask. What is beside its input was kept on the way down.
    let mask = if config.dropout > 0.0 { 1.0 } else { 0.0 };
    let mut blocks = |count: f64, [own, beside]: [f64; 2], output: f64, pixels: f64, attends| {
        let input = own + beside;
        let shortcut = if input == output { 0.0 } else { input * output };
        let attention = if attends { output } else { 0.0 };
        needs.parameters += count
            * (9.0 * (input + output) * output
                + temb * output
                + shortcut
                + 4.0 * attention * output);
        let block = own + output + mask * output + 6.0 * attention;
        needs.activations += count * pixels * block;
    };
    for (level, &c) in channels.iter().enumerate() {
        let before = channels[level.saturating_sub(1)];
        let after = *channels.get(level + 1).unwrap_or(&last);
        let (down, up) = (config.attention[level], config.up_attention()[level]);
        blocks(1.0, [before, 0.0], c, pixels, down);
        blocks(layers - 1.0, [c, 0.0], c, pixels, down);
        // On the way up each has beside it what the way down kept.
        blocks(1.0, [after, c], c, pixels, up);
        blocks(layers - 1.0, [c, c], c, pixels, up);
        blocks(1.0, [c, before], c, pixels, up);
        if level + 1 < channels.len() {
            pixels /= 4.0;
        }
    }
    blocks(1.0, [last, 0.0], last, pixels, config.mid_attention);
    blocks(1.0, [last, 0.0], last, pixels, false);
    // Each level but the last is halved, each but the first doubled.
    let resampled: f64 = channels.windows(2).map(|c| c[0] * c[0] + c[1] * c[1]).sum();
    needs.parameters += 9.0 * resampled;
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
pub(crate) fn total() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024.0 * kib)
}

#[cfg(test)]
mod tests;
