//! The data of a plan: all in memory, or a folder of images that are decoded when they are needed.

use std::sync::Arc;

use anyhow::Result;
use ddpm_data::{DataError, Dataset, ImageFolder, Source};

use super::Plan;
use crate::memory::{MemoryError, shown};
use crate::progress::FolderProgress;

/// The part of the machine's memory that decoded images take at most where `data.in_memory` is absent.
const PART: f64 = 0.25;

/// The bytes that they take at most there.
const MOST: f64 = 4.0 * (1_u64 << 30) as f64;

impl Plan {
    /// Loads the data into each of `processes` processes of this machine.
    ///
    /// Images are decoded into memory if `data.in_memory` is true, or if it is absent and their values
    /// take at most a quarter of the memory, all processes together, and at most 4 GiB. Otherwise they
    /// are decoded when they are needed. Both ways have the same rows and the same fingerprint.
    ///
    /// `fits` is asked whether there is memory for rows of a shape that take so many bytes; for images,
    /// before they are decoded.
    ///
    /// # Errors
    ///
    /// If a file is missing, unreadable or not what its format says, or the data does not fit.
    pub fn load(
        &self,
        processes: usize,
        fits: impl Fn(&[usize], f64) -> Result<(), MemoryError>,
        progress: &mut FolderProgress,
    ) -> Result<Arc<dyn Dataset>> {
        let Source::Images {
            path,
            size,
            channels,
        } = &self.source
        else {
            let data = ddpm_data::load(&self.source).map_err(named)?;
            fits(data.shape(), data.bytes() as f64)?;
            return Ok(Arc::new(data));
        };
        let folder = ImageFolder::open(path, *size, *channels, &mut |at| progress.at(at));
        let folder = folder.map_err(named)?;
        let decoded = folder.decoded_bytes() as f64;
        let small = || {
            let memory = ddpm_data::memory().unwrap_or(f64::INFINITY);
            is_small(decoded, processes, memory)
        };
        if self.config.data.in_memory.unwrap_or_else(small) {
            fits(folder.shape(), decoded)?;
            return Ok(Arc::new(folder.decode(&mut |at| progress.at(at))?));
        }
        fits(folder.shape(), folder.bytes() as f64)?;
        progress.say(&format!(
            "images stay in their files and are decoded when they are needed (in memory: {}; \
             data.workers = {})",
            shown(decoded),
            self.config.data.workers
        ));
        Ok(Arc::new(folder))
    }
}

/// Whether images of so many bytes are decoded into memory where no one says so.
fn is_small(decoded: f64, processes: usize, memory: f64) -> bool {
    decoded * processes as f64 <= PART * memory && decoded <= MOST
}

/// An error of the data, with the key of the path that does not exist.
fn named(error: DataError) -> anyhow::Error {
    match error {
        DataError::Missing(missing) => anyhow::anyhow!("data.path {missing}"),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_small;

    const GIB: f64 = (1_u64 << 30) as f64;

    #[test]
    fn a_quarter_of_the_memory_and_four_gib_are_small() {
        assert!(is_small(2.0 * GIB, 1, 8.0 * GIB) && !is_small(2.1 * GIB, 1, 8.0 * GIB));
        assert!(!is_small(2.0 * GIB, 2, 8.0 * GIB));
        assert!(is_small(4.0 * GIB, 1, 64.0 * GIB) && !is_small(4.1 * GIB, 1, 64.0 * GIB));
    }
}
