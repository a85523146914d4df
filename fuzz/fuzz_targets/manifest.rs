//! Any bytes as a checkpoint's manifest, hashed and added up whatever its numbers.

#![no_main]

use ddpm_train::checkpoint::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert_eq!(manifest.state_hash().len(), 64);
        let _ = manifest.bytes();
    }
});
