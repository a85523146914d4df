//! Any bytes as a batch of CIFAR-10's binary version, and as the names of its classes.

#![no_main]

use ddpm_fuzz::data::load;
use ddpm_data::Source;
use libfuzzer_sys::fuzz_target;

/// One record: an airplane without light.
const RECORD: &[u8] = &[0; 1 + 3 * 32 * 32];

fuzz_target!(|bytes: &[u8]| {
    let source = |folder: &std::path::Path| Source::Cifar10 {
        path: folder.to_owned(),
    };
    let names = [1, 2, 3, 4, 5].map(|batch| format!("data_batch_{batch}.bin"));
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (&**name, RECORD)).collect();
    files.push(("batches.meta.txt", bytes));
    load(&files, source);
    files.pop();
    files[2].1 = bytes;
    load(&files, source);
});
