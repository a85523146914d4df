//! What a network is told beside x_t and its time.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// What a network is told beside x_t and its time; nothing, by default.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Condition {
    /// One class per row, `[B]`.
    pub class: Option<Tensor<1, Int>>,
    /// Channels beside x_t, `[B, C, H, W]`.
    pub image: Option<Tensor<4>>,
    /// Numbers per row, `[B, F]`.
    pub vector: Option<Tensor<2>>,
}

impl Condition {
    /// No condition.
    pub fn none() -> Self {
        Self::default()
    }

    /// One class per row.
    #[allow(clippy::cast_possible_wrap)]
    pub fn classes(classes: &[usize], device: &Device) -> Self {
        let classes: Vec<i64> = classes.iter().map(|&class| class as i64).collect();
        let count = classes.len();
        Self {
            class: Some(Tensor::from_data(TensorData::new(classes, [count]), device)),
            ..Self::default()
        }
    }
}
