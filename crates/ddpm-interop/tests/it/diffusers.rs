//! Folders of diffusers: what `benches/peers/interop.py fixtures` made, and what is wrong with them.

mod agreement;
mod config;
mod hostile;
mod weights;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ddpm_interop::diffusers::{self, DiffusersError};
use serde_json::{Map, Value};
use tempfile::TempDir;

/// The folders Python made.
const FIXTURES: [&str; 4] = ["flat", "pickled", "sharded", "old"];

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/diffusers/fixtures");
    folder.join(name)
}

/// A copy of a fixture's weights and configuration, to spoil.
fn copy(name: &str) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name).join("theirs")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
        }
    }
    to
}

/// What opening a folder and building its network is answered with.
fn refusal(folder: &Path) -> String {
    let built = diffusers::unet(folder).and_then(|unet| unet.build(&Device::flex()));
    match built {
        Ok(_) => panic!("{} was accepted", folder.display()),
        Err(error) => error.to_string(),
    }
}

/// Changes the keys of a JSON file.
fn edit(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut map = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut map);
    fs::write(path, serde_json::to_vec(&map).unwrap()).unwrap();
}

fn built(folder: &Path) -> Result<ddpm_model::UNet, DiffusersError> {
    diffusers::unet(folder)?.build(&Device::flex())
}
