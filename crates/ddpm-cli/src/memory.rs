//! How much memory the work takes, estimated before any of it is allocated.

use burn::tensor::Device;
use ddpm_model::{MlpConfig, UNetConfig};
use indicatif::BinaryBytes;

use crate::plan::{NetworkPlan, Plan};
use ddpm_train::device::is_host;

/// Work that takes more memory than there is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{work} takes {:.1} GiB at least ({parameters:.2e} parameters, {:.1} GiB of activations, {:.1} GiB \
     of data), and there are {:.1} GiB: {way_out}",
    gib(*needed), gib(*activations), gib(*data), gib(*available)
)]
pub struct MemoryError {
    /// The work.
    pub work: String,
    /// What takes less.
    pub way_out: &'static str,
    /// Bytes needed.
    pub needed: f64,
    /// Of these, bytes of activations.
    pub activations: f64,
    /// Of these, bytes of the data set.
    pub data: f64,
    /// Weights of the network.
    pub parameters: f64,
    /// Bytes that the machine has, or that the system allows.
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
    /// Values that a forward pass holds at once without a backward pass, for each row.
    forward: f64,
}

/// Bytes of an f32.
const FLOAT: f64 = 4.0;

/// Copies of the weights that every rank has: themselves, their gradients, the two moments, the average.
const COPIES: f64 = 5.0;

/// Copies that the first rank has while a checkpoint is written: weights, moments and average.
const WRITTEN: f64 = 4.0;

/// The ranks that train one run, as far as they share memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Ranks all together: a batch is divided among them.
    pub ranks: usize,
    /// Ranks that are processes of this machine, each with its own copy of the data.
    pub processes: usize,
    /// Ranks that are threads of each process.
    pub threads: usize,
}

impl Spread {
    /// One rank.
    pub const ALONE: Self = Self {
        ranks: 1,
        processes: 1,
        threads: 1,
    };
}

/// Whether there is the memory for training a plan on rows of `shape`, of a data set of `data` bytes.
/// Where the memory is not known, or the device does not compute in the machine's memory, it is taken
/// to suffice.
///
/// The estimate is a lower bound. It counts the data, the weights and their copies, and the inputs of
/// the convolutions and of attention; it leaves out what the operations need in passing.
///
/// # Errors
///
/// If there is not.
pub fn check(
    plan: &Plan,
    shape: &[usize],
    data: f64,
    spread: Spread,
    device: &Device,
) -> Result<(), MemoryError> {
    match ddpm_data::memory().filter(|_| is_host(device)) {
        Some(available) => check_within(plan, shape, data, spread, available),
        None => Ok(()),
    }
}

/// As [`check`], where `available` bytes are there.
///
/// # Errors
///
/// If they are not enough.
pub fn check_within(
    plan: &Plan,
    shape: &[usize],
    data: f64,
    spread: Spread,
    available: f64,
) -> Result<(), MemoryError> {
    let Some(needs) = needs(&plan.network, shape) else {
        return Ok(());
    };
    let config = &plan.config;
    let (processes, threads) = (spread.processes as f64, spread.threads as f64);
    let rows = config.batch_size as f64 / spread.ranks as f64;
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
    let ranks = processes * threads;
    let copies = ranks * COPIES + WRITTEN;
    let data = processes * data;
    let way_out = if config.data.in_memory == Some(true) {
        "choose data.in_memory = false, a smaller model, batch_size or sampling.count, or a larger \
         accumulate"
    } else {
        "choose a smaller model, batch_size or sampling.count, a larger accumulate, or less data"
    };
    let activations = ranks * activations;
    Budget {
        work: "training".to_owned(),
        way_out,
        parameters: needs.parameters,
        activations,
        data,
        needed: copies * FLOAT * needs.parameters + data + (activations + ranks * batch).max(drawn),
    }
    .within(available)
}

/// Whether there is the memory for predicting `rows` rows of `shape` at once, beside `data` bytes of
/// data; see [`check`].
///
/// # Errors
///
/// If there is not.
pub fn check_forward(
    network: &NetworkPlan,
    shape: &[usize],
    rows: usize,
    data: f64,
    device: &Device,
) -> Result<(), MemoryError> {
    match ddpm_data::memory().filter(|_| is_host(device)) {
        Some(available) => check_forward_within(network, shape, rows, data, available),
        None => Ok(()),
    }
}

fn check_forward_within(
    network: &NetworkPlan,
    shape: &[usize],
    rows: usize,
    data: f64,
    available: f64,
) -> Result<(), MemoryError> {
    let Some(needs) = needs(network, shape) else {
        return Ok(());
    };
    let activations = FLOAT * rows as f64 * needs.forward;
    Budget {
        work: format!("a batch of {rows} rows"),
        way_out: "choose a smaller --batch-size, or less data",
        parameters: needs.parameters,
        activations,
        data,
        needed: FLOAT * needs.parameters + activations + data,
    }
    .within(available)
}

/// What some work takes.
struct Budget {
    work: String,
    way_out: &'static str,
    parameters: f64,
    activations: f64,
    data: f64,
    needed: f64,
}

impl Budget {
    fn within(self, available: f64) -> Result<(), MemoryError> {
        if self.needed <= available {
            return Ok(());
        }
        Err(MemoryError {
            work: self.work,
            way_out: self.way_out,
            needed: self.needed,
            activations: self.activations,
            data: self.data,
            parameters: self.parameters,
            available,
        })
    }
}

/// What a network needs for rows of `shape`; nothing for rows it will be refused for.
fn needs(network: &NetworkPlan, shape: &[usize]) -> Option<Needs> {
    match (network, shape) {
        (NetworkPlan::UNet(config), &[channels, height, width]) => {
            Some(unet(config, channels, height as f64 * width as f64))
        }
        (NetworkPlan::Mlp(config), _) => Some(mlp(config)),
        (NetworkPlan::UNet(_), _) => None,
    }
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
        ..Needs::default()
    };
    // A residual block keeps the inputs of its two norms, which its convolutions read, and dropout's
    // mask. What is beside its input was kept on the way down.
    let mask = if config.dropout > 0.0 { 1.0 } else { 0.0 };
    let mut largest = 0.0_f64;
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
        // The input, and what the first convolution makes of it.
        largest = largest.max(pixels * (input + output));
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
    needs.forward = largest;
    needs
}

fn mlp(config: &MlpConfig) -> Needs {
    let (hidden, layers) = (config.hidden as f64, config.layers as f64);
    Needs {
        // Two layers and the projection of time.
        parameters: 3.0 * hidden * hidden * layers,
        activations: 4.0 * hidden * layers,
        forward: 2.0 * hidden,
    }
}

/// A number of bytes as people write it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn shown(bytes: f64) -> BinaryBytes {
    BinaryBytes(bytes as u64)
}

#[cfg(test)]
mod tests;
