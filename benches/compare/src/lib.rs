//! What the programs `race`, `scale` and `interop` share: compiling our side, installing the other,
//! and reading the lines that both print.

mod build;
mod line;
pub mod peers;

pub use build::{build, emptied};
pub use line::{number, text};
