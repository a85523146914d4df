//! Kernels on `&[f32]`: images are `[batch, height, width, channels]`, contiguous.

pub mod activation;
pub mod isa;
mod vector;

pub use isa::Isa;
