//! Backends whose tensors are f32 in the memory of this process, where the kernels can read them.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::TensorData;

/// A backend whose tensors the kernels can read.
pub trait Host: Backend {
    /// The same tensor with its elements contiguous in row-major order.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The elements of a [`contiguous`](Self::contiguous) tensor.
    ///
    /// # Panics
    ///
    /// If the tensor is not contiguous or not f32; the callers rule this out.
    fn floats(tensor: &FloatTensor<Self>) -> &[f32];

    /// Whether another tensor shares the memory of its elements.
    fn is_shared(tensor: &FloatTensor<Self>) -> bool;

    /// A tensor of these elements.
    fn tensor(values: Vec<f32>, shape: &[usize], device: &Self::Device) -> FloatTensor<Self> {
        Self::float_from_data(TensorData::new(values, shape), device)
    }
}

#[cfg(feature = "flex")]
impl Host for burn::backend::Flex {
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self> {
        if tensor.as_slice::<f32>().is_some() {
            return tensor;
        }
        tensor.to_contiguous()
    }

    fn floats(tensor: &FloatTensor<Self>) -> &[f32] {
        tensor
            .as_slice::<f32>()
            .expect("a contiguous tensor of f32")
    }

    fn is_shared(tensor: &FloatTensor<Self>) -> bool {
        !tensor.is_unique()
    }
}

#[cfg(feature = "ndarray")]
#[allow(deprecated, reason = "kept until Burn removes it: see docs/design.md")]
mod ndarray {
    use burn::backend::NdArray;
    use burn::backend::tensor::FloatTensor;
    use burn_ndarray::NdArrayTensor;

    impl super::Host for NdArray {
        fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self> {
            match tensor {
                NdArrayTensor::F32(values) if !values.view().is_standard_layout() => {
                    values.into_shared().as_standard_layout().to_shared().into()
                }
                tensor => tensor,
            }
        }

        fn floats(tensor: &FloatTensor<Self>) -> &[f32] {
            let values = match tensor {
                NdArrayTensor::F32(values) => values.view().to_slice(),
                _ => None,
            };
            values.expect("a contiguous tensor of f32")
        }

        fn is_shared(tensor: &FloatTensor<Self>) -> bool {
            match tensor {
                NdArrayTensor::F32(values) => !values.is_unique(),
                _ => false,
            }
        }
    }
}
