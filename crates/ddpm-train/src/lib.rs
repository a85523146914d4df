//! Training and sampling of DDPMs: configuration, data, loop, EMA, checkpoints, pictures.
//!
//! The program `ddpm` is a thin shell around this library. [`config`] is what a file says,
//! [`plan`] what has been checked; [`fit::train`] runs a plan, [`generate::generate`] samples from
//! what it leaves. [`device`] is the only place that knows which backends are compiled.
#![doc = ""]
#![doc = include_str!("../README.md")]

pub mod check;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod device;
pub mod diffusers;
pub mod ema;
pub mod evaluate;
pub mod examine;
pub mod fit;
pub mod flow;
pub mod forward;
pub mod generate;
pub mod interrupt;
pub mod memory;
pub mod metrics;
pub mod missing;
pub mod network;
pub mod optim;
pub mod params;
pub mod picture;
pub mod plan;
pub mod plot;
pub mod progress;
pub mod ranks;
pub mod rows;
pub mod sample;
pub mod samplers;
pub mod shard;
pub mod table;
pub mod terminal;
pub mod times;
