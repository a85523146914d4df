//! Kernels on slices of f32. Images are `[batch, height, width, channels]`, contiguous.
//!
//! The modules form layers; each imports only from those before it: instruction sets (`isa`),
//! what a product multiplies (`precision`, `words`), vectors and memory (`simd`, `vector`,
//! `lengths`, `scratch`, `disjoint`), small matrix products (`gemm`), and the operations.

pub mod adamw;
pub mod attention;
pub mod conv;
mod disjoint;
mod gemm;
pub mod isa;
pub(crate) mod lengths;
pub mod norm;
mod precision;
pub(crate) mod scratch;
mod simd;
pub(crate) mod vector;
mod words;

pub use isa::Isa;
pub use precision::Precision;
