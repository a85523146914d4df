//! How much memory the work takes, estimated before any of it is allocated.

use burn::tensor::Device;
use ddpm_model::Footprint;
use indicatif::BinaryBytes;

use crate::config::{Model, OptimizerKind};
use crate::plan::Plan;
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

/// Bytes of an f32.
const FLOAT: f64 = 4.0;

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
    let Some(needs) = needs(&plan.config.model, shape) else {
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
    // The optimizer keeps two moments of every weight, or of most weights one.
    let moments = match config.optimizer.kind {
        OptimizerKind::Adamw => 2.0,
        OptimizerKind::Muon => 1.0,
    };
    // Weights, moments and averages: the first rank copies them for a checkpoint. Every rank has them,
    // and the gradients.
    let written = 1.0 + moments + config.ema.decay.as_slice().len() as f64;
    let copies = ranks * (written + 1.0) + written;
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
    network: &Model,
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
    network: &Model,
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

/// What a network needs for rows of `shape`; `None` for rows it will be refused for.
fn needs(network: &Model, shape: &[usize]) -> Option<Footprint> {
    match (network, shape) {
        (Model::UNet(config), &[c, h, w]) => Some(config.footprint([c, h, w])),
        (Model::Mlp(config), _) => Some(config.footprint()),
        (Model::UNet(_), _) => None,
    }
}

/// A number of bytes as people write it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn shown(bytes: f64) -> BinaryBytes {
    BinaryBytes(bytes as u64)
}

#[cfg(test)]
mod tests;
