//! What is measured, and what it was found to cost.

/// A network and its training.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) side: u8,
    pub(super) channels: &'static str,
    pub(super) batch: usize,
    pub(super) processes: usize,
    /// Threads per process.
    pub(super) threads: usize,
}

/// The measured cost of a setting.
pub(super) struct Cost {
    pub(super) setting: Setting,
    /// The number of weights of the network.
    pub(super) parameters: f64,
    /// The median, lowest and highest seconds per step, over the medians of the rounds.
    pub(super) seconds: [f64; 3],
}

/// The measured cost of a checkpoint.
pub(super) struct Checkpoint {
    pub(super) name: &'static str,
    pub(super) parameters: f64,
    pub(super) bytes: f64,
    pub(super) seconds: f64,
    /// Seconds that the loop waits for the first checkpoint and for the last.
    pub(super) stalls: [f64; 2],
    pub(super) step: f64,
}
