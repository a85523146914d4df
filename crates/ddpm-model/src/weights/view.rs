//! Tensors in a file's bytes: their positions, and their values as f32.

use std::ops::Range;

use half::{bf16, f16};

/// The type of a file's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl Dtype {
    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    fn read(self, bytes: &[u8]) -> Option<f32> {
        Some(match self {
            Self::F32 => f32::from_le_bytes(*bytes.first_chunk()?),
            Self::F16 => f16::from_le_bytes(*bytes.first_chunk()?).to_f32(),
            Self::Bf16 => bf16::from_le_bytes(*bytes.first_chunk()?).to_f32(),
        })
    }
}

/// A tensor within a file, all of whose elements are known to be in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    dtype: Dtype,
    bytes: Range<usize>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
    count: usize,
}

impl View {
    /// The tensor whose element (i, j, …) is element `offset` + i·stride₀ + j·stride₁ + … of
    /// `bytes`; `None` if it has more elements than `bytes`, or one of them is outside.
    pub fn new(
        dtype: Dtype,
        bytes: Range<usize>,
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Option<Self> {
        let stored = bytes.len() / dtype.size();
        let count = product(&shape)?;
        let mut end = offset;
        if count > 0 {
            end = end.checked_add(1)?;
            for (&size, &stride) in shape.iter().zip(&strides) {
                end = end.checked_add((size - 1).checked_mul(stride)?)?;
            }
        }
        (shape.len() == strides.len() && count <= stored && end <= stored).then_some(Self {
            dtype,
            bytes,
            offset,
            shape,
            strides,
            count,
        })
    }

    /// The tensor that fills `bytes`, last index fastest; `None` if the shape needs more or fewer
    /// bytes.
    pub fn contiguous(dtype: Dtype, bytes: Range<usize>, shape: Vec<usize>) -> Option<Self> {
        let count = product(&shape)?;
        if count.checked_mul(dtype.size())? != bytes.len() {
            return None;
        }
        let mut strides = vec![1; shape.len()];
        if count > 0 {
            for i in (1..shape.len()).rev() {
                strides[i - 1] = strides[i] * shape[i];
            }
        }
        Self::new(dtype, bytes, 0, shape, strides)
    }

    /// Its position in the file.
    pub fn bytes(&self) -> Range<usize> {
        self.bytes.clone()
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes of its elements.
    pub fn size(&self) -> usize {
        self.count * self.dtype.size()
    }

    /// The elements, last index fastest, read from the `file` it was found in.
    pub fn values(&self, file: &[u8]) -> Vec<f32> {
        let data = file.get(self.bytes()).unwrap_or_default();
        let mut values = Vec::with_capacity(self.count);
        if self.count > 0 {
            self.gather(data, self.offset, 0, &mut values);
        }
        values
    }

    fn gather(&self, data: &[u8], at: usize, axis: usize, values: &mut Vec<f32>) {
        if axis == self.shape.len() {
            values.extend(
                data.get(at * self.dtype.size()..)
                    .and_then(|b| self.dtype.read(b)),
            );
            return;
        }
        for i in 0..self.shape[axis] {
            self.gather(data, at + i * self.strides[axis], axis + 1, values);
        }
    }
}

/// The number of elements; `None` if it overflows, in any order of the factors.
fn product(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .try_fold(1_usize, |n, &size| n.checked_mul(size))
}
