//! Kernels on `&[f32]`: images are `[batch, height, width, channels]`, contiguous.

pub mod adamw;
pub mod attention;
pub mod conv;
mod disjoint;
mod gemm;
pub mod isa;
pub mod norm;
pub(crate) mod scratch;
pub(crate) mod vector;
mod words;

pub use isa::Isa;
pub use words::Precision;
