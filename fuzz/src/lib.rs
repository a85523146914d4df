//! What the targets share.

pub mod data;
mod folder;

pub use folder::Folder;
