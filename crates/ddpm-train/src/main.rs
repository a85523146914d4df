//! The program `ddpm`.
fn main() {}
