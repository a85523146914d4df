//! Any bytes as a network's configuration, up to the network with its weights.

#![no_main]

use std::sync::LazyLock;

use ddpm_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("safetensors", "config.json"));

fuzz_target!(|bytes: &[u8]| FOLDER.load(bytes));
