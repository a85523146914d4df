//! Any bytes as a file of weights: the header, and the tensors read through it.

#![no_main]

use std::sync::LazyLock;

use ddpm_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::new("safetensors", "diffusion_pytorch_model.safetensors"));

fuzz_target!(|bytes: &[u8]| FOLDER.load(bytes));
