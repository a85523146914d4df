//! `ddpm sample --init-noise`: a file in place of the seed's first draw.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use ddpm_model::weights::tensor_bytes;
use ddpm_process::NoiseStream;
use safetensors::tensor::{Dtype, TensorView};

use crate::run::{ok, refused, samples, tiny};
use crate::samples::files_of;

const COUNT: usize = 3;
const LEN: usize = 64;

/// The noise that samples 0, 1, 2 of a seed start from.
fn drawn(seed: u64) -> Vec<f32> {
    draw(seed, 0)
}

/// Their n-th draw, of which the first is for the first step.
fn draw(seed: u64, n: u32) -> Vec<f32> {
    let noise =
        NoiseStream::new(seed, "sample").normal(&[0, 1, 2], n, [COUNT, LEN], &Device::flex());
    noise.into_data().iter().collect()
}

fn write(path: &Path, name: &str, shape: &[usize], values: &[f32]) {
    let bytes = tensor_bytes(std::iter::once((name, shape.to_vec(), values))).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_file_replaces_the_first_draw_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run --steps 2");
    // The noisy sampler draws more from the seed at later steps.
    let draw = |arguments: &str, out: &str| {
        let common = "sample --from run --num 3 --sampler ddpm --steps 3 --raw";
        ok(folder, &format!("{common} --out {out} {arguments}"));
    };
    let shape = [COUNT, 1, 8, 8];
    let noise = drawn(5);
    write(&folder.join("own.safetensors"), "noise", &shape, &noise);
    draw("--seed 5", "seeded");
    draw("--seed 5 --init-noise own.safetensors", "given");
    // The record names the noise.
    let files = |out: &str| {
        let mut files = files_of(&folder.join(out));
        files.remove("samples.json").unwrap();
        files
    };
    let seeded = files("seeded");
    assert_eq!(
        seeded.len(),
        COUNT + 2,
        "a grid, the values and a picture each"
    );
    assert_eq!(files("given"), seeded);
    // Another seed draws another noise for the later steps.
    draw("--seed 6 --init-noise own.safetensors", "other");
    assert_ne!(
        samples(&folder.join("other")),
        samples(&folder.join("seeded"))
    );

    // Other noise for sample 1 makes another sample 1, and the same samples 0 and 2.
    let mut changed = noise;
    changed[LEN..2 * LEN].copy_from_slice(&drawn(9)[..LEN]);
    write(
        &folder.join("changed.safetensors"),
        "noise",
        &shape,
        &changed,
    );
    draw("--seed 5 --init-noise changed.safetensors", "changed");
    let (before, after) = (
        samples(&folder.join("given")),
        samples(&folder.join("changed")),
    );
    for (k, (before, after)) in before
        .chunks(4 * LEN)
        .zip(after.chunks(4 * LEN))
        .enumerate()
    {
        assert_eq!(before != after, k == 1, "sample {k}");
    }
}

/// Steps without noise draw nothing from a seed where the first noise is that of a file.
#[test]
fn a_seed_without_effect_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run --steps 2");
    let path = folder.join("own.safetensors");
    write(&path, "noise", &[COUNT, 1, 8, 8], &drawn(5));
    let draw = "sample --from run --num 3 --init-noise own.safetensors";
    for sampler in [
        "ddim --steps 3",
        "ddim --eta 0 --steps 3",
        "dpmpp-2m --steps 3",
        "ddpm --steps 1",
    ] {
        let seeded = format!("{draw} --sampler {sampler} --seed 5 --out s");
        let words = [
            "--seed 5: ",
            "--init-noise own.safetensors",
            "leave --seed out",
        ];
        refused(folder, &seeded, 1, &words);
        assert!(!folder.join("s").exists());
    }
    ok(folder, &format!("{draw} --out unseeded"));
    let noisy = "--sampler ddim --eta 0.5 --steps 2 --seed 5";
    ok(folder, &format!("{draw} {noisy} --out seeded"));
}

#[test]
fn noise_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run --steps 2");
    let noise = drawn(0);
    let path = folder.join("bad.safetensors");
    let refused = |words: &[&str]| {
        let words = [&["bad.safetensors"], words].concat();
        let arguments = "sample --from run --num 3 --init-noise bad.safetensors --out bad";
        refused(folder, arguments, 1, &words);
        assert!(
            !folder.join("bad").exists(),
            "a refused order writes nothing"
        );
    };
    refused(&["--init-noise", "no such file"]);
    for shape in [
        &[COUNT, LEN][..],
        &[1, COUNT, 8, 8],
        &[COUNT, 1, 4, 16],
        &[LEN * COUNT],
    ] {
        write(&path, "noise", shape, &noise);
        refused(&["noise", &format!("{shape:?}"), "[3, 1, 8, 8]"]);
    }
    // One row too few, one too many.
    write(&path, "noise", &[2, 1, 8, 8], &noise[LEN..]);
    refused(&["noise", "[2, 1, 8, 8]", "[3, 1, 8, 8]"]);
    write(
        &path,
        "noise",
        &[4, 1, 8, 8],
        &[noise.clone(), noise[..LEN].to_vec()].concat(),
    );
    refused(&["noise", "[4, 1, 8, 8]", "[3, 1, 8, 8]"]);

    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut noise = noise.clone();
        noise[2 * LEN + 5] = bad;
        write(&path, "noise", &[COUNT, 1, 8, 8], &noise);
        refused(&["sample 2", "not finite", &bad.to_string()]);
    }
    write(&path, "nois", &[COUNT, 1, 8, 8], &noise);
    refused(&["`noise` not found"]);
    for (dtype, size) in [(Dtype::F64, 8), (Dtype::F16, 2), (Dtype::I32, 4)] {
        let bytes = vec![0; COUNT * LEN * size];
        let view = TensorView::new(dtype, vec![COUNT, 1, 8, 8], &bytes).unwrap();
        fs::write(
            &path,
            safetensors::serialize([("noise", view)], None).unwrap(),
        )
        .unwrap();
        refused(&["noise is not f32"]);
    }
    write(&path, "noise", &[COUNT, 1, 8, 8], &noise);
    let whole = fs::read(&path).unwrap();
    for cut in [0, 7, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        refused(&[]);
    }
}

/// A file with the noise of the steps too repeats a run of another seed, or of another program: three
/// steps of DDPM draw two noises, for the last one adds none.
#[test]
fn a_file_replaces_the_noise_of_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run --steps 2");
    let common = "sample --from run --num 3 --sampler ddpm --steps 3 --raw";
    ok(folder, &format!("{common} --seed 5 --out seeded"));
    let file = |name: &str, draws: u32| {
        let (start, shape) = (drawn(5), vec![COUNT, 1, 8, 8]);
        let z: Vec<f32> = (1..=draws).flat_map(|n| draw(5, n)).collect();
        let of_steps = [&[draws as usize], &shape[..]].concat();
        let tensors = [("noise", shape, &start[..]), ("z", of_steps, &z[..])];
        fs::write(
            folder.join(name),
            tensor_bytes(tensors.into_iter()).unwrap(),
        )
        .unwrap();
    };
    file("all.safetensors", 2);
    let given = format!("{common} --init-noise all.safetensors --batch-size 2");
    ok(folder, &format!("{given} --out given"));
    // Batches of 2 and of 16 round differently: a few times 10⁻⁷ of numbers near 1.
    let floats = |out: &str| -> Vec<f32> {
        let bytes = samples(&folder.join(out));
        let (words, _) = bytes.as_chunks::<4>();
        words.iter().map(|word| f32::from_le_bytes(*word)).collect()
    };
    for (given, seeded) in floats("given").iter().zip(floats("seeded")) {
        assert!((given - seeded).abs() < 1e-4, "{given} {seeded}");
    }
    refused(
        folder,
        &format!("{given} --seed 5 --out x"),
        1,
        &["--seed 5", "all the noise"],
    );
    file("more.safetensors", 3);
    refused(
        folder,
        &format!("{common} --init-noise more.safetensors --out x"),
        1,
        &["z holds 3 draws", "makes 2"],
    );
    assert!(!folder.join("x").exists());
}
