//! Benchmarks, per compiled backend side by side.
fn main() {}
