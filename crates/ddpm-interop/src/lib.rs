//! Checkpoints and scheduler files of other libraries, read and written.
#![doc = ""]
#![doc = include_str!("../README.md")]

pub mod diffusers;
