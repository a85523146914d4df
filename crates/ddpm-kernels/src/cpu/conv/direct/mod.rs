//! Convolutions by their definition: every product of an input and a weight.

mod gradient;
mod images;
mod weights;

pub(crate) use gradient::weight_gradient;
pub(crate) use images::convolve;
pub(crate) use weights::DirectWeights;
