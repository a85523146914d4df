//! Kernels on `&[f32]`: images are `[batch, height, width, channels]`, contiguous.

pub mod isa;

pub use isa::Isa;
