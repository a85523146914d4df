//! The operations of the DDPM U-Net, forward and backward, on images `[batch, height, width,
//! channels]`.
//!
//! On the CPU backends Flex and NdArray they run this crate's own kernels ([`cpu`]). The instruction
//! set is chosen at run time, and the results do not depend on the number of threads. On every other
//! backend the same functions use Burn's operations, so that one network works everywhere.
//!
//! The features `flex` and `ndarray` compile the kernels for these backends; `allocator` adds an
//! allocator for programs that train.
#![doc = ""]
#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(any(feature = "flex", feature = "ndarray")),
    allow(
        dead_code,
        unused_variables,
        reason = "the kernels are for these backends"
    )
)]

#[cfg(feature = "allocator")]
pub mod allocator;
mod arguments;
mod autodiff;
mod checks;
mod composite;
pub mod cpu;
mod device;
mod host;
mod inputs;
mod operations;
pub mod ops;
mod optimizer;
mod packed;
mod switches;

pub use crate::arguments::{ConvOptions, Images, Input, Norm, NormOptions, Terms};
pub use crate::cpu::Precision;
pub use crate::cpu::adamw::AdamW;
pub use crate::device::serves;
pub use crate::operations::{attention, conv, group_norm, square_sum};
pub use crate::optimizer::{Parameter, adamw};
pub use crate::switches::{
    Autocast, PackedWeights, autocast, enable, is_fast, keep_packed_weights,
};
