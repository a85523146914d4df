//! Atomic writes of files and folders, and errors that name the file.
#![doc = ""]
#![doc = include_str!("../README.md")]

mod error;
mod missing;
mod whole;

pub use error::{FileError, io};
pub use missing::{Missing, must_exist};
pub use whole::{
    aside, check_writable, remove_folder, sync_parent, write_file, write_files, write_folder,
};
