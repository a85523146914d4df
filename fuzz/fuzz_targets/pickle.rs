//! Any bytes as PyTorch's weights: the zip archive, the pickle in it, and the tensors read through both.

#![no_main]

use std::sync::LazyLock;

use ddpm_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::new("bin", "diffusion_pytorch_model.bin"));

fuzz_target!(|bytes: &[u8]| FOLDER.load(bytes));
