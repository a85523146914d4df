//! Convolutions and their gradients.
//!
//! Along one axis, a convolution is a set of phases with taps (`axis`). Padding, stride, upsampling
//! and the transposes of all of them therefore share one loop. The modules form layers: shapes and
//! memory layout (`axis`, `shape`, `blocks`, `map`, `to_words`), the register tiles (`tile`), the
//! algorithms `direct` and `winograd`, which do not know each other, and on top the choice among
//! them (`algorithm`) and the interface (`convolution`).

mod algorithm;
mod axis;
mod blocks;
mod convolution;
mod direct;
mod epilogue;
mod map;
mod shape;
mod shares;
mod sums;
mod tile;
mod to_words;
mod winograd;

pub use algorithm::Algorithm;
pub use convolution::{Conv, Packed, PackedTranspose};
pub use epilogue::Epilogue;
pub use shape::{Shape, ShapeError};
pub use sums::shift_gradient;
