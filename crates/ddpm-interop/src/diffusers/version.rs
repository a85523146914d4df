//! The supported release of diffusers.

/// The release whose files were compared with ours; exported folders name it.
pub(super) const VERSION: &str = "0.42.1";
