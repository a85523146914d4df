//! Weights as files: reads untrusted files, and writes files that PyTorch reads.
//!
//! Files are untrusted: a file is read only up to its length, needs memory in proportion to its
//! length, and is loaded completely or not at all.

mod lines;
mod load;
mod safetensors;
mod save;
mod stored;
mod view;

pub use lines::Lines;
pub use load::{load, load_module};
pub use safetensors::{Entry, Header, parse};
pub use save::{module_bytes, not_finite, tensor_bytes};
pub use stored::{Weights, read_file, read_tensor};
pub use view::{Dtype, View};
