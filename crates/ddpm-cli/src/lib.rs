//! What the program `ddpm` is made of: configuration files, commands, progress, pictures.
//!
//! [`config`] is what a file says, [`plan`] what has been checked; [`fit::train`] runs a plan,
//! [`sample::sample`] samples from what it leaves.
#![doc = ""]
#![doc = include_str!("../README.md")]

pub mod check;
pub mod config;
pub mod drawing;
pub mod export;
pub mod fit;
pub mod forward;
pub mod interrupt;
pub mod memory;
pub mod missing;
pub mod network;
pub mod nll;
pub mod picture;
pub mod place;
pub mod plan;
pub mod plot;
pub mod progress;
pub mod rows;
pub mod sample;
pub mod samplers;
mod saved_run;
pub mod shard;
pub mod table;
pub mod terminal;
