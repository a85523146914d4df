//! Reproducible random numbers without tensors.
#![doc = ""]
#![doc = include_str!("../README.md")]

mod stream;

pub use stream::{RowRng, Stream};
