//! The sizes of an attention and the layout of its tensors.

use crate::cpu::gemm::MatrixView;
use crate::cpu::lengths::tensor_len;
use crate::cpu::vector::rounded;

/// The most query rows in a strip; a multiple of every tile height.
pub(super) const STRIP: usize = 96;

/// The sizes of an attention; its tensors are `[batch, tokens, heads·dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Sequences, which do not interact.
    pub batch: usize,
    /// Tokens of a sequence, N ≥ 1.
    pub tokens: usize,
    /// Heads, which do not interact.
    pub heads: usize,
    /// Channels of a head, d ≥ 1.
    pub dim: usize,
}

impl Attention {
    /// The number of floats of a token.
    pub(super) fn width(&self) -> usize {
        self.heads * self.dim
    }

    /// The number of floats of a sequence.
    pub(super) fn size(&self) -> usize {
        self.tokens * self.width()
    }

    /// 1/√d.
    pub(super) fn scale(&self) -> f32 {
        rounded((self.dim as f64).sqrt().recip())
    }

    /// Rows of a strip, such that all strips have nearly the same height.
    pub(super) fn strip(&self) -> usize {
        let n = self.tokens;
        n.div_ceil(n.div_ceil(STRIP)).next_multiple_of(12)
    }

    /// The tokens of head `h` from `row` on, in the slice of a sequence.
    pub(super) fn head<'a>(&self, sequence: &'a [f32], row: usize, h: usize) -> MatrixView<'a> {
        MatrixView::rows(sequence, self.width()).from(row, h * self.dim)
    }

    /// Sequence `b` of each tensor.
    pub(super) fn sequence<'a, const N: usize>(
        &self,
        tensors: [&'a [f32]; N],
        b: usize,
    ) -> [&'a [f32]; N] {
        tensors.map(|x| &x[b * self.size()..][..self.size()])
    }

    pub(super) fn check(&self, tensors: &[usize], lse: usize) {
        let Self {
            batch,
            tokens,
            heads,
            dim,
        } = *self;
        assert!(
            tokens > 0 && heads > 0 && dim > 0,
            "attention: {self:?} has a size of 0"
        );
        // Of one sequence as well: the batch may be 0, and the others are still multiplied.
        tensor_len("attention", &[tokens, heads, dim]);
        let len = tensor_len("attention", &[batch, tokens, heads, dim]);
        assert!(
            tensors.iter().all(|&t| t == len) && lse == batch * tokens * heads,
            "attention: tensors of {tensors:?} and {lse} log-sum-exps instead of {len} for {self:?}"
        );
    }
}
