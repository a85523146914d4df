//! The sizes of a convolution, and which of them are invalid.

use std::fmt;

use super::axis::Axis;
use crate::cpu::lengths::checked_len;

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows and columns of the input, before upsampling.
    pub size: [usize; 2],
    /// Channels of the first and of the second input; 0 if there is no second.
    pub in_channels: [usize; 2],
    /// Channels of the output.
    pub out_channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Pixels of the (upsampled) input from one output to the next.
    pub stride: usize,
    /// Zeros before and after the rows, before and after the columns.
    pub padding: [[usize; 2]; 2],
    /// The factor of nearest upsampling before the convolution; 1 for none.
    pub upsample: usize,
}

/// What is wrong with a [`Shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShapeError {
    /// The named size is 0.
    Zero(&'static str),
    /// The kernel is larger than the padded input along this axis (0: rows, 1: columns).
    KernelTooLarge(usize),
    /// The named tensor of one image has more bytes than a slice can have.
    TooLarge(&'static str),
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero(name) => write!(f, "a convolution's {name} must be at least 1, got 0"),
            Self::KernelTooLarge(axis) => {
                let axis = ["rows", "columns"][*axis];
                write!(f, "the kernel has more {axis} than the padded input")
            }
            Self::TooLarge(name) => write!(f, "memory cannot hold a convolution's {name}"),
        }
    }
}

impl std::error::Error for ShapeError {}

impl Shape {
    /// Both axes of the convolution.
    ///
    /// The indices that a kernel computes lie in the upsampled and padded input. No index overflows
    /// if memory can hold that tensor.
    pub(super) fn axes(&self) -> Result<[Axis; 2], ShapeError> {
        for (size, name) in [
            (self.size[0], "input height"),
            (self.size[1], "input width"),
            (self.in_channels[0], "number of input channels"),
            (self.out_channels, "number of output channels"),
            (self.kernel[0], "kernel height"),
            (self.kernel[1], "kernel width"),
            (self.stride, "stride"),
            (self.upsample, "upsampling factor"),
        ] {
            if size == 0 {
                return Err(ShapeError::Zero(name));
            }
        }
        let [rows, cols] = self.kernel;
        let inputs = self.in_channels[0].saturating_add(self.in_channels[1]);
        fits("padded input", &[self.padded(0), self.padded(1), inputs])?;
        fits("weights", &[self.out_channels, inputs, rows, cols])?;
        let axis = |k: usize| {
            let (size, kernel, padding) = (self.size[k], self.kernel[k], self.padding[k]);
            Axis::new(size, kernel, self.stride, padding, self.upsample)
                .ok_or(ShapeError::KernelTooLarge(k))
        };
        let axes = [axis(0)?, axis(1)?];
        let [rows, cols] = axes.each_ref().map(|axis| axis.output);
        fits("output", &[rows, cols, self.out_channels])?;
        Ok(axes)
    }

    /// Pixels of the upsampled and padded input along an axis, saturating.
    fn padded(&self, axis: usize) -> usize {
        let [before, after] = self.padding[axis];
        let upsampled = self.size[axis].saturating_mul(self.upsample);
        upsampled.saturating_add(before).saturating_add(after)
    }
}

/// An error if memory cannot hold a tensor of these sizes.
fn fits(name: &'static str, sizes: &[usize]) -> Result<(), ShapeError> {
    checked_len(sizes)
        .map(|_| ())
        .ok_or(ShapeError::TooLarge(name))
}
