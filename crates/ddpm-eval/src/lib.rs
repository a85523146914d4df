//! Measures of trained diffusion models.
#![doc = ""]
#![doc = include_str!("../README.md")]

pub mod flow;
pub mod likelihood;
