//! `precision = "bf16"`: faster where the processor can, refused where it cannot.

use std::fs;
use std::path::Path;

use ddpm_cli::config::{Config, PrecisionKind};
use ddpm_kernels::{Precision, is_fast};
use ddpm_train::device::Backend;

use crate::checkpoints::hash;
use crate::devices::metrics;
use crate::resume::resumes;
use crate::run::{ok, refused, samples, tiny};

/// Whether bf16 is to be had here; where not, the tests see to it that it is refused.
fn has_bf16() -> bool {
    is_fast(Precision::Bf16, &Backend::Flex.device().unwrap())
}

/// The tiny run's configuration, which asks for bf16.
fn config(folder: &Path) -> String {
    tiny(folder);
    let config = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let (seed, precision) = ("seed = 0\n", "seed = 0\nprecision = \"bf16\"\n");
    assert!(config.contains(seed));
    config.replacen(seed, precision, 1)
}

#[test]
fn the_key_is_kept_and_f32_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = folder.join("bf16.toml");
    fs::write(&path, config(folder)).unwrap();
    let bf16 = Config::read(&path).unwrap();
    assert_eq!(bf16.precision, PrecisionKind::Bf16);
    assert!(
        toml::to_string(&bf16)
            .unwrap()
            .contains("precision = \"bf16\"")
    );
    let f32 = Config::read(&folder.join("tiny.toml")).unwrap();
    assert_eq!(f32.precision, PrecisionKind::F32);
    assert!(
        toml::to_string(&f32)
            .unwrap()
            .contains("precision = \"f32\"")
    );
    let unknown = config(folder).replace("bf16", "f16");
    fs::write(&path, unknown).unwrap();
    let error = Config::read(&path).unwrap_err().to_string();
    assert!(error.contains("f16") && error.contains("bf16"), "{error}");
}

#[test]
fn a_run_in_bf16_resumes_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let config = config(folder);
    if has_bf16() {
        return resumes(folder, &config, 4);
    }
    fs::write(folder.join("run.toml"), config).unwrap();
    let says = ["precision: bf16 needs a processor with AVX512-BF16"];
    refused(folder, "train --config run.toml --out run", 2, &says);
    assert!(!folder.join("run").exists());
}

/// Weights and all else are f32: after four steps of the same rows the losses differ by the rounding
/// of the network's output alone, less than one per cent, as `ddpm-kernels` has it of each convolution.
#[test]
fn the_losses_are_those_of_f32_to_a_per_cent() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out f32");
    ok(folder, "sample --from f32 --num 2 --steps 3 --raw --out s");
    let f32_samples = samples(&folder.join("s"));
    let sample = "sample --from f32 --num 2 --steps 3 --raw --precision bf16 --out s16";
    let train = "train --config tiny.toml --precision bf16 --out bf16";
    if !has_bf16() {
        for command in [sample, train] {
            refused(folder, command, 2, &["error: precision: bf16 needs"]);
        }
        return;
    }
    ok(folder, train);
    assert_ne!(hash(folder, "f32"), hash(folder, "bf16"));
    let losses = metrics(folder, "f32")
        .into_iter()
        .zip(metrics(folder, "bf16"));
    for ([a, _], [b, _]) in losses {
        assert!((a - b).abs() < 0.01 * a, "{b} is not {a}");
    }
    ok(folder, sample);
    let bf16_samples = samples(&folder.join("s16"));
    assert_eq!(bf16_samples.len(), f32_samples.len());
    assert_ne!(bf16_samples, f32_samples);
}
