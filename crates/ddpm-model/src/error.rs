//! Why a network cannot be built.

/// Why a network cannot be built, or cannot take an input.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// A count that is zero or too large.
    #[error("{name} must be in 1..={MAX_COUNT}, not {value}")]
    Count {
        /// The field.
        name: &'static str,
        /// Its value.
        value: usize,
    },
    /// The groups of the group norms do not divide a level's channels.
    #[error("{channels} channels do not divide into {groups} groups (norm_num_groups)")]
    Groups {
        /// Channels of the level.
        channels: usize,
        /// The configured number of groups.
        groups: usize,
    },
    /// The heads of attention do not divide a level's channels.
    #[error("{channels} channels do not divide into heads of width {width} (attention_head_dim)")]
    Heads {
        /// Channels of the level.
        channels: usize,
        /// The configured width of a head.
        width: usize,
    },
    /// `attention` or `up_attention` does not have one entry per level.
    #[error("attention has {got} entries for {levels} levels of block_out_channels")]
    Attention {
        /// Entries of `attention`.
        got: usize,
        /// Entries of `block_out_channels`.
        levels: usize,
    },
    /// A mid block without a norm in a network without `scale_shift`. diffusers has no such network.
    #[error("mid_attention_norm = false needs scale_shift = true")]
    MidNorm,
    /// A number outside its range.
    #[error("{name} = {value} is outside {range}")]
    Range {
        /// The field.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The range it must lie in.
        range: &'static str,
    },
    /// An image that cannot be halved by every level but the last.
    #[error("an image of {height}×{width} cannot be halved {halvings} times")]
    ImageSize {
        /// Image height in pixels.
        height: usize,
        /// Image width in pixels.
        width: usize,
        /// How often the network halves it.
        halvings: usize,
    },
}

/// The most channels, blocks or classes a network may have. Sizes of weights are products of a few
/// counts, so this keeps them from overflowing.
const MAX_COUNT: usize = 1 << 20;

pub(crate) fn count(name: &'static str, value: usize) -> Result<(), ModelError> {
    if (1..=MAX_COUNT).contains(&value) {
        return Ok(());
    }
    Err(ModelError::Count { name, value })
}
