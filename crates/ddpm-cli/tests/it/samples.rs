//! The folder of `ddpm sample`: what it holds, what it is refused for, and what it depends on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use ddpm_model::weights::{read_tensor, tensor_bytes};
use image::AnimationDecoder;
use image::codecs::gif::GifDecoder;
use safetensors::SafeTensors;

use crate::checkpoints::seal;
use crate::run::{ddpm, ok, refused, samples, tiny};

/// Every file of a folder, and of the folders in it, by its path there.
pub(crate) fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner = files_of(&path).into_iter();
            files.extend(inner.map(|(rest, bytes)| (format!("{name}/{rest}"), bytes)));
        } else {
            files.insert(name, fs::read(path).unwrap());
        }
    }
    files
}

/// The names in a folder, in order.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Makes the small run `run` in a folder.
pub(crate) fn train(folder: &Path) {
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run --steps 2");
}

/// A folder with that run.
pub(crate) fn trained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path());
    folder
}

fn record(out: &Path) -> BTreeMap<String, String> {
    let text = fs::read(out.join("samples.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Twenty samples are two batches; each picture is its row of the values, rounded.
#[test]
fn images_hold_the_samples_and_nothing_else() {
    let folder = trained();
    let folder = folder.path();
    ok(folder, "sample --from run --num 20 --film --raw --out s");
    let out = folder.join("s");
    let beside = [
        "film.gif",
        "grid.png",
        "images",
        "samples.json",
        "samples.safetensors",
    ];
    assert_eq!(names(&out), beside);
    let expected: Vec<_> = (0..20).map(|k| format!("{k:04}.png")).collect();
    assert_eq!(names(&out.join("images")), expected);
    let (shape, values) = read_tensor(&out.join("samples.safetensors"), "samples").unwrap();
    assert_eq!(shape, [20, 1, 8, 8]);
    for (name, row) in expected.iter().zip(values.chunks(64)) {
        let image = image::open(out.join("images").join(name))
            .unwrap()
            .into_luma8();
        assert_eq!(image.dimensions(), (8, 8));
        for (pixel, value) in image.pixels().zip(row) {
            assert!(
                (f32::from(pixel.0[0]) - (value + 1.0) * 127.5).abs() < 0.51,
                "{name}"
            );
        }
    }
    // In words of the command line.
    let record = record(&out);
    for (key, word) in [
        ("num", "20"),
        ("seed", "0"),
        ("sampler", "ddim"),
        ("numbers", "published"),
        ("steps", "3"),
        ("evaluations", "3"),
        ("class", "all"),
        ("guidance", "1"),
        ("precision", "f32"),
        ("batch-size", "16"),
        ("shape", "1×8×8"),
        ("raw", "yes"),
        ("film", "yes"),
    ] {
        assert_eq!(record[key], word, "{key}");
    }
    assert!(record["network"].starts_with("SHA-256 "), "{record:?}");
}

/// Of 300 samples the grid shows 256: 16 rows of 16 tiles of 34 pixels, and a border of 2.
#[test]
fn the_grid_shows_the_first_256() {
    let folder = trained();
    let folder = folder.path();
    let draw = "sample --from run --steps 1 --num";
    for (num, side) in [(300, (546, 546)), (257, (546, 546)), (240, (546, 512))] {
        ok(folder, &format!("{draw} {num} --out s{num}"));
        let out = folder.join(format!("s{num}"));
        let grid = image::open(out.join("grid.png")).unwrap().into_rgb8();
        assert_eq!(grid.dimensions(), side, "{num}");
        // The first tile is the first image, each pixel four times as wide.
        let first = image::open(out.join("images/0000.png"))
            .unwrap()
            .into_rgb8();
        assert_eq!(grid.get_pixel(2, 2), first.get_pixel(0, 0));
        assert_eq!(grid.get_pixel(33, 33), first.get_pixel(7, 7));
        assert_eq!(names(&out.join("images")).len(), num);
    }
}

/// A film of more than a hundred steps has a hundred frames; its last is the samples themselves.
#[test]
fn a_film_has_at_most_a_hundred_frames() {
    let folder = trained();
    let folder = folder.path();
    for (steps, frames) in [(7, 7), (100, 100), (130, 100)] {
        let out = format!("s{steps}");
        let draw = "sample --from run --num 4 --film --out";
        ok(folder, &format!("{draw} {out} --steps {steps}"));
        let file = File::open(folder.join(&out).join("film.gif")).unwrap();
        let decoder = GifDecoder::new(BufReader::new(file)).unwrap();
        let found = decoder.into_frames().collect_frames().unwrap();
        assert_eq!(found.len(), frames, "{steps} steps");
        let grid = image::open(folder.join(&out).join("grid.png")).unwrap();
        let last = found[frames - 1].buffer();
        assert_eq!(last.dimensions(), (70, 70));
        // A frame has 256 colours of its own, and these have fewer: grays.
        for (a, b) in last.pixels().zip(grid.into_rgba8().pixels()) {
            assert!(
                a.0.iter().zip(b.0).all(|(a, b)| a.abs_diff(b) <= 2),
                "{a:?} {b:?}"
            );
        }
    }
}

/// Where the samples go is looked at before anything else: the run does not even exist.
#[test]
fn an_output_that_cannot_be_is_refused_first() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("file"), "mine").unwrap();
    fs::create_dir(folder.join("used")).unwrap();
    fs::write(folder.join("used/mine.txt"), "mine").unwrap();
    let draw = "sample --from nowhere --out";
    refused(
        folder,
        &format!("{draw} file"),
        1,
        &["file is not a folder"],
    );
    refused(folder, &format!("{draw} file/s"), 1, &["file/s"]);
    refused(folder, &format!("{draw} used"), 1, &["used is not empty"]);
    for option in ["--resume", "--overwrite"] {
        let words = [option, "used is not empty and has no samples.json"];
        refused(folder, &format!("{draw} used {option}"), 1, &words);
    }
    let words = ["--resume", "s does not exist"];
    refused(folder, &format!("{draw} s --resume"), 1, &words);
    #[cfg(target_os = "linux")]
    refused(
        folder,
        &format!("{draw} /proc/nowhere/s"),
        1,
        &["/proc/nowhere/s"],
    );
    // What was made for it goes again.
    refused(folder, &format!("{draw} a/b/s"), 1, &["nowhere"]);
    assert_eq!(names(folder), ["file", "used"]);
    assert_eq!(
        fs::read_to_string(folder.join("used/mine.txt")).unwrap(),
        "mine"
    );
}

#[test]
fn samples_are_overwritten_only_when_asked_and_nothing_else_is() {
    let folder = trained();
    let folder = folder.path();
    let out = folder.join("s");
    ok(folder, "sample --from run --num 6 --film --raw --out s");
    let before = files_of(&out);
    let other = "sample --from run --num 2 --seed 5 --out s";
    refused(
        folder,
        other,
        1,
        &["s holds samples already", "--resume", "--overwrite"],
    );
    assert_eq!(files_of(&out), before);
    fs::write(out.join("fid.txt"), "mine").unwrap();
    // An order that is refused later has removed nothing.
    refused(
        folder,
        &format!("{other} --overwrite --class 10"),
        1,
        &["--class 10"],
    );
    ok(folder, &format!("{other} --overwrite"));
    assert_eq!(
        names(&out),
        ["fid.txt", "grid.png", "images", "samples.json"]
    );
    assert_eq!(names(&out.join("images")), ["0000.png", "0001.png"]);
    fs::write(out.join("images/mine.png"), "mine").unwrap();
    for option in ["--overwrite", "--resume"] {
        refused(
            folder,
            &format!("{other} {option}"),
            1,
            &["images/mine.png", "none of the samples"],
        );
    }
    assert_eq!(
        names(&out.join("images")),
        ["0000.png", "0001.png", "mine.png"]
    );
}

/// Only what is missing is drawn, and only of the same order.
#[test]
fn a_resumed_order_draws_what_is_missing() {
    let folder = trained();
    let folder = folder.path();
    let out = folder.join("s");
    let draw = "sample --from run --num 40 --film --raw --out s";
    ok(folder, draw);
    let whole = files_of(&out);
    let resume = format!("{draw} --resume");
    for missing in [
        "images/0020.png",
        "grid.png",
        "film.gif",
        "samples.safetensors",
    ] {
        fs::remove_file(out.join(missing)).unwrap();
        ok(folder, &resume);
        assert!(files_of(&out) == whole, "{missing}");
    }
    // What is there is not drawn again: of another content, it stays.
    fs::write(out.join("images/0039.png"), "mine").unwrap();
    ok(folder, &resume);
    assert_eq!(
        fs::read_to_string(out.join("images/0039.png")).unwrap(),
        "mine"
    );
    for (option, words) in [
        (
            "--seed 1",
            &["seed is 0 in s/samples.json, 1 in this order"][..],
        ),
        ("--steps 2", &["steps is 3 in", "2 in this order"]),
        (
            "--class 1 --guidance 2",
            &["class is all in", "guidance is 1 in"],
        ),
        ("--batch-size 8", &["batch-size is 16 in"]),
        (
            "--sampler dpmpp-2m",
            &["sampler is ddim in", "dpmpp-2m in this order"],
        ),
    ] {
        refused(folder, &format!("{resume} {option}"), 1, words);
    }
    ok(
        folder,
        "train --config tiny.toml --out other --steps 2 --seed 1",
    );
    let other = resume.replace("--from run", "--from other");
    refused(folder, &other, 1, &["network is SHA-256 "]);
}

/// More than the disk holds is refused before any of it is drawn, and no number makes it panic.
#[test]
fn numbers_beyond_disk_and_memory_are_refused() {
    let folder = trained();
    let folder = folder.path();
    for num in ["1000000000000", "18446744073709551615"] {
        for option in ["", "--raw", "--film", "--shard 2/3"] {
            let draw = format!("sample --from run --num {num} --out s {option}");
            let words = ["--num", num, "samples take about", "has", "free"];
            refused(folder, &draw, 1, &words);
        }
        let draw = format!("sample --from run --out s --batch-size {num}");
        refused(folder, &draw, 1, &["--batch-size", num, "there are"]);
        let forward = format!("forward --rows {num} --out f");
        refused(folder, &forward, 1, &["--rows", num, "that there are"]);
    }
    assert_eq!(names(folder), ["run", "tiny.toml"]);
}

/// A batch of another size may round otherwise, but draws the same samples; and for a size of its own
/// they do not depend on their number.
#[test]
fn the_batch_size_is_a_choice() {
    let folder = trained();
    let folder = folder.path();
    let draw = "sample --from run --sampler ddpm --raw";
    ok(folder, &format!("{draw} --num 20 --out of-16"));
    ok(
        folder,
        &format!("{draw} --num 20 --batch-size 7 --out of-7"),
    );
    ok(folder, &format!("{draw} --num 9 --batch-size 7 --out nine"));
    let values = |out: &str| samples(&folder.join(out));
    assert_eq!(values("of-7")[..9 * 64 * 4], values("nine"));
    let floats = |out: &str| read_tensor(&folder.join(out).join("samples.safetensors"), "samples");
    let (sixteen, seven) = (floats("of-16").unwrap().1, floats("of-7").unwrap().1);
    for (a, b) in sixteen.iter().zip(&seven) {
        // Three steps of a small network in f32.
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
    assert_eq!(record(&folder.join("of-7"))["batch-size"], "7");
    refused(
        folder,
        &format!("{draw} --batch-size 0 --out no"),
        1,
        &["--batch-size 0"],
    );
}

/// Rewrites one value of a checkpoint's averaged weights, on purpose.
pub(crate) fn spoil(folder: &Path, name: &str, change: impl Fn(&mut [f32])) {
    let checkpoint = folder.join("run/checkpoints/step-00000002");
    let path = checkpoint.join("ema.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut all = Vec::new();
    for (found, view) in tensors.tensors() {
        let words = view.data().as_chunks::<4>().0.iter();
        let mut values: Vec<f32> = words.map(|word| f32::from_le_bytes(*word)).collect();
        if found == name {
            change(&mut values);
        }
        all.push((found, view.shape().to_vec(), values));
    }
    let all = all.iter();
    let entries = all.map(|(name, shape, values)| (name.as_str(), shape.clone(), &values[..]));
    fs::write(&path, tensor_bytes(entries).unwrap()).unwrap();
    seal(&checkpoint);
}

#[test]
fn weights_that_are_not_finite_are_named() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let folder = trained();
        let folder = folder.path();
        spoil(folder, "conv_out.bias", |values| values[0] = bad);
        let words = ["step-00000002/ema.safetensors", "conv_out.bias holds "];
        refused(folder, "sample --from run --num 1 --out s", 1, &words);
        refused(folder, "eval nll --from run --num 2", 1, &words);
        assert!(!folder.join("s").exists());
    }
}

/// Each weight is a number, and what they make of the noise is none: no black picture.
#[test]
fn samples_that_are_not_finite_are_none() {
    let folder = trained();
    let folder = folder.path();
    spoil(folder, "conv_out.weight", |values| values.fill(f32::MAX));
    for draw in ["", "--film --raw", "--sampler ddpm", "--shard 1/1"] {
        let draw = format!("sample --from run --num 1 --out s {draw}");
        refused(
            folder,
            &draw,
            1,
            &["step 1 of 3", "the time 999", "not finite"],
        );
        let left = names(&folder.join("s"));
        assert!(!left.contains(&"grid.png".to_owned()), "{left:?}");
        fs::remove_dir_all(folder.join("s")).unwrap();
    }
    refused(
        folder,
        "eval nll --from run --num 2",
        1,
        &[": at t = 2 the network gives "],
    );
}

#[test]
fn the_help_says_what_the_batch_size_trades() {
    let folder = tempfile::tempdir().unwrap();
    let help = String::from_utf8(ddpm(folder.path(), "sample --help").stdout).unwrap();
    let words: Vec<&str> = help.split_whitespace().collect();
    let text = words.join(" ");
    assert!(
        text.contains("faster on a GPU and take more memory"),
        "{help}"
    );
    assert!(text.contains("equal up to rounding"), "{help}");
}
