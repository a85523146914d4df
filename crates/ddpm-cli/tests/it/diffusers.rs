//! The program and folders of diffusers; [`fixture`]s are those that ddpm-interop is tested with.

mod export;
pub(crate) mod places;

use std::fs;
use std::path::{Path, PathBuf};

use ddpm_cli::place;
use serde_json::{Map, Value};

fn fixture(name: &str) -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    crates
        .join("ddpm-interop/tests/it/diffusers/fixtures")
        .join(name)
}

/// What opening a folder is answered with.
fn refusal(folder: &Path) -> String {
    match place::unet(folder) {
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
