//! Training data: where rows come from, and the order they come in.
//!
//! A [`Dataset`] gives its rows by number. A [`Loader`] makes an endless, reproducible sequence of
//! batches of them. [`load`] reads the built-in [sources](Source).
#![doc = ""]
#![doc = include_str!("../README.md")]

mod cifar10;
pub mod classes;
mod dataset;
mod digits;
mod error;
mod idx;
mod images;
mod in_memory;
mod loader;
mod source;
mod system;
mod toys;

pub use dataset::Dataset;
pub use error::DataError;
pub use images::{ImageFolder, Reading};
pub use in_memory::InMemory;
pub use loader::{Batch, Loader, shuffled};
pub use source::{Channels, Source, load};
pub use system::memory;
