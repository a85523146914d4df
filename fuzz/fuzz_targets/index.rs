//! Any bytes as the index of a folder whose weights lie in several files.

#![no_main]

use std::sync::LazyLock;

use ddpm_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::new("sharded", "diffusion_pytorch_model.safetensors.index.json"));

fuzz_target!(|bytes: &[u8]| FOLDER.load(bytes));
