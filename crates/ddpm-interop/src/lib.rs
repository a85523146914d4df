//! Reads and writes checkpoints and scheduler files of other libraries.
#![doc = ""]
#![doc = include_str!("../README.md")]

pub mod diffusers;
