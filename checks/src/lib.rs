//! What the programs `tidy` and `mutate` share: the files of a checkout, and the tables of equations
//! and of their mutations.

pub mod equations;
mod files;
pub mod mutations;

pub use files::{Checkout, Finding, Tree, files};
