//! stub
pub mod config;
pub mod data;
pub mod device;
pub mod ema;
pub mod network;
pub mod optim;
pub mod params;
pub mod plan;
pub mod checkpoint;
pub mod picture;
pub mod sample;
pub mod fit;
pub mod progress;
