//! ddpm-train's tests: data, descent, guidance, and whole runs of the program.
#![allow(missing_docs)]

mod backends;
mod checkpoints;
mod data;
mod descent;
mod devices;
mod diffusers;
mod diverged;
mod faults;
mod field;
mod forward;
mod guidance;
mod init_from;
mod init_noise;
mod likelihood;
mod points;
mod precision;
#[cfg(all(feature = "mpi", target_os = "linux"))]
mod ranks;
mod resume;
mod run;
mod samples;
mod scheduler;
mod shards;
mod stopped;
