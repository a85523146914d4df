//! Training data: the sources of rows, and their order.
//!
//! A [`Dataset`] returns its rows by number. A [`Loader`] makes an endless, reproducible sequence
//! of batches from them. [`load`] reads the built-in [sources](Source).
#![doc = ""]
#![doc = include_str!("../README.md")]

mod channels;
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

pub use channels::Channels;
pub use dataset::Dataset;
pub use error::DataError;
pub use images::{ImageFolder, Reading};
pub use in_memory::InMemory;
pub use loader::{Batch, Loader, shuffled};
pub use source::{Source, load};
pub use system::memory;
