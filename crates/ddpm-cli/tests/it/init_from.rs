//! `ddpm train --init-from RUN`: another run, with the weights of one that there is.

use std::fs;
use std::path::Path;

use crate::checkpoints::hash;
use crate::resume::{changed, said};
use crate::run::{ok, refused, tiny};

/// A folder with the run `run` of two steps.
fn begun() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path());
    let train = "train --config tiny.toml --out run --steps 2";
    ok(folder.path(), train);
    folder
}

fn read(folder: &Path, path: &str) -> Vec<u8> {
    fs::read(folder.join(path)).unwrap()
}

/// The averaged weights are the new run's weights, and its average's; what else is told is its own.
#[test]
fn a_run_begins_with_anothers_averaged_weights() {
    let folder = begun();
    let folder = folder.path();
    let changes = [
        ("parametrization = \"v\"", "parametrization = \"epsilon\""),
        ("\ndropout = 0.1", "\ndropout = 0.2"),
        ("learning_rate = 1e-3", "learning_rate = 1e-5"),
    ];
    changed(folder, "other.toml", &changes);
    let said = said(
        folder,
        "train --config other.toml --out other --init-from run",
    );
    let story = "begins with the averaged weights of run/checkpoints/step-00000002; \
                 model.dropout is 0.1 there and 0.2 here; \
                 objective.parametrization is \"v\" there and \"epsilon\" here; \
                 optimizer.learning_rate is 0.001 there and 0.00001 here\n";
    assert!(said.starts_with(story), "{said}");
    let averages = read(folder, "run/checkpoints/step-00000002/ema.safetensors");
    assert_ne!(
        averages,
        read(folder, "run/checkpoints/step-00000002/model.safetensors")
    );
    for part in ["model", "ema"] {
        let path = format!("other/checkpoints/step-00000000/{part}.safetensors");
        assert_eq!(read(folder, &path), averages, "{part}");
    }
    // The run they are from is as it was.
    ok(folder, "train --config tiny.toml --out same --steps 2");
    assert_eq!(hash(folder, "run"), hash(folder, "same"));
}

/// Without a configuration it is the run's; and any of its checkpoints can be named.
#[test]
fn the_configuration_is_the_runs() {
    let folder = begun();
    let folder = folder.path();
    let from = "train --init-from run/checkpoints/step-00000002 --seed 3";
    // Its folder would be the one of the name.
    ok(folder, from);
    let digits = fs::read_to_string(folder.join("runs/digits/config.toml")).unwrap();
    let run = fs::read_to_string(folder.join("run/config.toml")).unwrap();
    assert_eq!(digits, run.replace("seed = 0", "seed = 3"));
    refused(folder, from, 1, &["runs/digits holds a run already"]);
    let both = "train --init-from run --resume";
    refused(folder, both, 2, &["--init-from", "--resume"]);
    let words = ["no-such-run"];
    refused(folder, "train --init-from no-such-run", 1, &words);
}

#[test]
fn the_weights_of_another_network_are_refused() {
    let folder = begun();
    let folder = folder.path();
    for (from, to, difference) in [
        (
            "norm_num_groups = 4",
            "norm_num_groups = 4\nactivation = \"relu\"",
            "model.activation is \"silu\" there and \"relu\" here",
        ),
        (
            "num_classes = 10",
            "num_classes = 10\nnull_class = true\nscale_shift = true",
            "model.scale_shift is false there and true here",
        ),
        (
            "class_dropout = 0.1",
            "class_dropout = 0.1\nlearned_variance = true",
            "objective.learned_variance is false there and true here",
        ),
    ] {
        changed(folder, "other.toml", &[(from, to)]);
        let train = "train --config other.toml --out other --init-from run";
        let words = [
            "run/checkpoints/step-00000002 holds the weights of another network: ",
            difference,
        ];
        refused(folder, train, 1, &words);
        assert!(!folder.join("other").exists());
    }
}

/// Gray weights for rows of three colors.
#[test]
fn the_weights_for_other_rows_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let plain = [("num_classes = 10\n", ""), ("class_dropout = 0.1", "")];
    changed(folder, "gray.toml", &plain);
    ok(folder, "train --config gray.toml --out run --steps 2");
    let data = "kind = \"images\"\npath = \"photos\"\nsize = 8\nchannels = 3";
    let colors = [plain[0], plain[1], ("kind = \"digits\"", data)];
    changed(folder, "colors.toml", &colors);
    fs::create_dir(folder.join("photos")).unwrap();
    for i in 0..8 {
        let photo = image::RgbImage::from_pixel(8, 8, image::Rgb([20 * i, 0, 9]));
        photo.save(folder.join(format!("photos/{i}.png"))).unwrap();
    }
    let words = ["was trained on rows of shape [1, 8, 8], the data has [3, 8, 8]"];
    let train = "train --config colors.toml --out other --init-from run";
    refused(folder, train, 1, &words);
    assert!(!folder.join("other").exists());
}

/// A process that dies between the weights it begins with and the configuration leaves a run that goes
/// on with these weights.
#[test]
fn a_run_that_died_at_its_beginning_goes_on() {
    let folder = begun();
    let folder = folder.path();
    let train = "train --config tiny.toml --init-from run --seed 1 --out";
    ok(folder, &format!("{train} whole"));
    ok(folder, &format!("{train} died"));
    let died = folder.join("died");
    for step in ["step-00000002", "step-00000004"] {
        fs::remove_dir_all(died.join("checkpoints").join(step)).unwrap();
    }
    for file in ["config.toml", "metrics.jsonl", "loss.svg"] {
        fs::remove_file(died.join(file)).unwrap();
    }
    let words = ["died holds a run already: go on with --resume"];
    refused(folder, &format!("{train} died"), 1, &words);
    let said = said(folder, "train --out died --resume");
    let from = "goes on from step 0 of 4, died/checkpoints/step-00000000\n";
    assert!(said.starts_with(from), "{said}");
    assert_eq!(hash(folder, "died"), hash(folder, "whole"));
    assert_eq!(
        read(folder, "died/config.toml"),
        read(folder, "whole/config.toml")
    );
}
