//! Whole runs of the program.
#![allow(missing_docs)]

mod backends;
mod book_plots;
mod checkpoints;
mod data_keys;
mod devices;
mod diffusers;
mod diverged;
mod faults;
mod field;
mod forward;
mod guidance;
mod image_folder;
mod init_from;
mod init_noise;
mod optimizers;
mod points;
mod precision;
#[cfg(all(feature = "mpi", target_os = "linux"))]
mod ranks;
mod resume;
mod run;
mod samplers;
mod samples;
mod scheduler_export;
mod shards;
mod solver_page;
mod stopped;
#[path = "../../../ddpm-schedule/tests/it/torch.rs"]
mod torch;

/// That two numbers are as close as `tolerance`.
#[track_caller]
fn assert_close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance, "{a} is not {b}");
}
