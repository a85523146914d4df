//! What the targets share.

pub mod data;
