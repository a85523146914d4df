//! Folders of the Python library diffusers: networks trained there load here, and the reverse.
//!
//! A pipeline's folder is nested (`unet/`, `scheduler/`) or flat. [`unet`] reads the network's part
//! of it, [`write()`] writes one. Files are untrusted: a file is read only up to its length, needs
//! memory in proportion to its length, and features beyond a U-Net of DDPM are refused by name.

mod config;
mod error;
mod export;
mod files;
mod json;
mod network;
mod pickle;
pub mod scheduler;
mod scheduler_file;
mod version;
mod zip;

pub use error::DiffusersError;
pub use export::{ExportError, write};
pub use network::{Pretrained, unet};
pub use scheduler_file::{check_objective, scheduler};
