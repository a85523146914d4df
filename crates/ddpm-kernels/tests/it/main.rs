//! Compares every kernel with a naive f64 reference, on every instruction set of this machine, and the
//! operations on tensors with Burn's.

mod adamw;
mod attention;
mod checks;
mod conv;
mod norm;
mod reference;
mod switches;
mod tensors;
