//! What the loaders' targets share: a folder of diffusers one file of which is the fuzzer's.

use std::fs;
use std::path::Path;

use ddpm_interop::diffusers::{self, DiffusersError};

/// A folder as diffusers wrote it (`benches/peers/interop.py fuzz` makes those of `fuzz/folders`).
pub struct Folder {
    others: Vec<(String, Vec<u8>)>,
    file: &'static str,
}

impl Folder {
    /// One of `fuzz/folders`, of which `file` is to be replaced.
    ///
    /// # Panics
    ///
    /// If the folder cannot be read, or has no such file.
    pub fn new(name: &str, file: &'static str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("folders")
            .join(name);
        let entries = fs::read_dir(folder).expect("a folder of fuzz/folders");
        let mut others: Vec<(String, Vec<u8>)> = entries
            .map(|entry| {
                let path = entry.expect("an entry").path();
                let name = path.file_name().expect("a name").to_string_lossy();
                (name.into_owned(), fs::read(&path).expect("a file"))
            })
            .collect();
        let at = others.iter().position(|(name, _)| name == file);
        others.swap_remove(at.expect("the file to replace"));
        Self { others, file }
    }

    /// Opens the folder and reads every tensor; every answer is a good one.
    ///
    /// # Panics
    ///
    /// If the loader does, or the temporary folder cannot be written.
    pub fn load(&self, bytes: &[u8]) {
        let others = self.others.iter().map(|(name, bytes)| (&**name, &**bytes));
        let folder = crate::written(others.chain([(self.file, bytes)]));
        let _ = network(folder.path());
    }
}

fn network(folder: &Path) -> Result<(), DiffusersError> {
    let pretrained = diffusers::unet(folder)?;
    for (name, shape, values) in pretrained.tensors() {
        let count: usize = shape.iter().product();
        assert_eq!(values.len(), count, "{name} {shape:?}");
    }
    let [height, width] = pretrained.sample_size.unwrap_or([4, 4]);
    pretrained.check(&[pretrained.channels[0], height, width])
}
