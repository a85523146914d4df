//! Why a value of a configuration is refused.

/// A key, and what is wrong with its value.
pub(super) type Refusal = (&'static str, String);
