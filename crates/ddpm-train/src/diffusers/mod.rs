//! Folders of the Python library diffusers.

pub mod scheduler;
