//! Folders and scheduler files of diffusers.
#![allow(missing_docs)]

mod diffusers;
mod scheduler;
#[path = "../../../ddpm-schedule/tests/it/torch.rs"]
mod torch;

/// That two numbers are as close as `tolerance`.
#[track_caller]
fn assert_close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance, "{a} is not {b}");
}
