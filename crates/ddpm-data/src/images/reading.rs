//! The progress of reading a folder.

/// How far a folder of images has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reading {
    /// So many image files were found.
    Listed {
        /// Files.
        found: usize,
    },
    /// The headers of some files were read.
    Checked {
        /// Files checked.
        done: usize,
        /// Files in the folder.
        total: usize,
    },
    /// Some files were decoded into memory.
    Decoded {
        /// Files decoded.
        done: usize,
        /// Files in the folder.
        total: usize,
    },
}
