//! Every kernel against a naive f64 reference, on every instruction set of this machine; the
//! operations on tensors against Burn's own.

mod adamw;
mod attention;
mod burn;
mod conv;
mod norm;
mod operands;
mod reference;
mod switches;
