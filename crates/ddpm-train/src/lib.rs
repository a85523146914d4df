//! stub
pub mod device;
pub mod ema;
pub mod network;
pub mod optim;
pub mod params;
