//! Folders of the Python library diffusers: what is trained there loads here, and the reverse.
//!
//! A pipeline's folder is nested (`unet/`, `scheduler/`) or flat. [`unet`] reads the network's
//! part of it, [`export`] writes one. A file is a stranger's: it is read to its end and no further,
//! costs memory in proportion to its length, and what it asks for beyond a U-Net of DDPM is refused
//! by name.

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
