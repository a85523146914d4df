//! The operations of the DDPM U-Net on a CPU, forward and backward, in f32.
//!
//! [`cpu`] holds the kernels: functions of slices, with the instruction set chosen at run time
//! and results that do not depend on the number of threads.

pub mod cpu;
