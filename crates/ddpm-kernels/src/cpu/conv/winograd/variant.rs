//! The two variants of Winograd's minimal filtering.

/// The size of the tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// F(2×2, 3×3)
    F2,
    /// F(4×4, 3×3)
    F4,
}

impl Variant {
    /// Outputs of a tile along an axis.
    pub(crate) fn outputs(self) -> usize {
        match self {
            Self::F2 => 2,
            Self::F4 => 4,
        }
    }

    /// Inputs of a tile along an axis.
    pub(crate) fn inputs(self) -> usize {
        self.outputs() + 2
    }

    /// Multiplications along an axis of `output` pixels, with partial tiles counted whole.
    pub(crate) fn products(self, output: usize) -> usize {
        output.div_ceil(self.outputs()) * self.inputs()
    }

    /// The matrix G (Lavin and Gray, §4.1 and §4.3).
    pub(super) fn filter(self) -> &'static [[f32; 3]] {
        match self {
            Self::F2 => &[
                [1.0, 0.0, 0.0],
                [0.5, 0.5, 0.5],
                [0.5, -0.5, 0.5],
                [0.0, 0.0, 1.0],
            ],
            Self::F4 => &[
                [0.25, 0.0, 0.0],
                [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
                [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
                [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
                [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
                [0.0, 0.0, 1.0],
            ],
        }
    }
}
