//! Weights as files: read with care, and written so that PyTorch reads them.
//!
//! Files are not trusted. Reading one takes memory in proportion to its length and stops at its end. A
//! network is loaded as a whole or not at all.

mod lines;
mod load;
mod safetensors;
mod save;
mod stored;
mod view;

pub use lines::Lines;
pub use load::{load, load_module};
pub use safetensors::parse;
pub use save::{module_bytes, not_finite, tensor_bytes};
pub use stored::{Weights, read_file, read_tensor};
pub use view::{Dtype, View};
