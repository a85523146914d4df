//! Output channels, divided into blocks of at most two vectors.

use crate::cpu::isa::Isa;
use crate::cpu::simd::lanes;

/// Consecutive output channels that fill at most two vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// The first output channel.
    pub(crate) first: usize,
    /// The number of output channels.
    pub(crate) width: usize,
    /// The number of vectors, 1 or 2. `width` fills two vectors exactly; it may fill one in part.
    pub(crate) vectors: usize,
}

/// Divides `channels` into blocks: as many of two vectors as fit, then blocks of one.
pub(crate) fn blocks(isa: Isa, channels: usize) -> Vec<Block> {
    let lanes = lanes(isa);
    let mut blocks = Vec::new();
    let mut first = 0;
    while first < channels {
        let left = channels - first;
        let vectors = if left >= 2 * lanes { 2 } else { 1 };
        let width = left.min(vectors * lanes);
        blocks.push(Block {
            first,
            width,
            vectors,
        });
        first += width;
    }
    blocks
}

/// Whether the blocks contain each of `channels` channels once.
pub(crate) fn cover(blocks: &[Block], channels: usize) -> bool {
    let end = blocks.iter().try_fold(0, |end, block| {
        (block.first == end).then_some(end + block.width)
    });
    end == Some(channels)
}
