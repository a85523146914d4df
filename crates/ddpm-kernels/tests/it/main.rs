//! Every kernel against a naive f64 reference, on every instruction set of this machine.

mod activation;
mod adamw;
mod attention;
mod conv;
mod linear;
mod norm;
mod reference;
