//! The runs that are killed: each recipe made small, plain and with every feature.

use super::{program::Program, random::Random};
use anyhow::{Context as _, ensure};
use std::{fs, path::Path};

/// Changes of a text: each replaces the first by the second.
type Changes = &'static [(&'static str, &'static str)];

/// A recipe, and the changes that make it small.
struct Recipe {
    name: &'static str,
    smaller: Changes,
    /// The changes that turn on everything that a run has to remember.
    features: Changes,
}

/// Times drawn by their last losses. There are so few times that each has losses before the run ends.
const IMAGES: Changes = &[
    ("timesteps = 1000", "timesteps = 4"),
    (
        "weighting = \"simple\"\n",
        "weighting = \"simple\"\nlearned_variance = true\nimportance_sampling = true\n\
         stratified = true\n",
    ),
    ("batch_size = 4\n", "batch_size = 4\naccumulate = 2\n"),
];

const RECIPES: [Recipe; 4] = [
    Recipe {
        name: "digits",
        smaller: &[
            ("\nsteps = 1000\n", "\nsteps = 24\n"),
            ("batch_size = 64", "batch_size = 4"),
            ("[32, 64]", "[8, 8]"),
            ("norm_num_groups = 8", "norm_num_groups = 4"),
            ("warmup = 50", "warmup = 15"),
            (
                "steps = 50\ncount = 100\nevery = 250",
                "steps = 3\ncount = 3\nevery = 12",
            ),
            ("[checkpoint]\nevery = 250", "[checkpoint]\nevery = 1"),
        ],
        features: &[
            (
                "\"digits\"\n\n[process]",
                "\"digits\"\nflip = true\n\n[process]",
            ),
            (
                "layers_per_block = 1",
                "layers_per_block = 1\ndropout = 0.1",
            ),
            ("sampler = \"ddim\"", "sampler = \"ddpm-learned\""),
        ],
    },
    Recipe {
        name: "fashion-mnist",
        smaller: &[
            ("\nsteps = 6000\n", "\nsteps = 12\n"),
            ("batch_size = 32", "batch_size = 4"),
            ("\"idx\"\n", "\"idx\"\npath = \"../idx\"\n"),
            ("[16, 32, 64]", "[4, 4, 8]"),
            ("norm_num_groups = 8", "norm_num_groups = 4"),
            ("warmup = 200", "warmup = 8"),
            (
                "steps = 50\ncount = 64\nevery = 1000",
                "steps = 2\ncount = 2\nevery = 6",
            ),
            ("[checkpoint]\nevery = 500", "[checkpoint]\nevery = 1"),
        ],
        features: &[
            (
                "layers_per_block = 1",
                "layers_per_block = 1\ndropout = 0.1",
            ),
            ("sampler = \"ddim\"", "sampler = \"ddpm-learned\""),
        ],
    },
    Recipe {
        name: "cifar10",
        smaller: &[
            ("\nsteps = 800000\n", "\nsteps = 12\n"),
            ("batch_size = 128", "batch_size = 4"),
            (
                "\"cifar10\"\nflip",
                "\"cifar10\"\npath = \"../cifar10\"\nflip",
            ),
            ("[128, 256, 256, 256]", "[4, 4, 4, 8]"),
            ("layers_per_block = 2", "layers_per_block = 1"),
            ("norm_num_groups = 32", "norm_num_groups = 4"),
            ("warmup = 5000", "warmup = 8"),
            (
                "steps = 1000\ncount = 64\nevery = 10000",
                "steps = 2\ncount = 2\nevery = 6",
            ),
            (
                "[checkpoint]\nevery = 5000\nkeep_last = 3",
                "[checkpoint]\nevery = 1",
            ),
        ],
        features: &[("\"ddpm-large\"", "\"ddpm-learned\"")],
    },
    Recipe {
        name: "swiss-roll",
        smaller: &[
            ("\nsteps = 10000\n", "\nsteps = 60\n"),
            ("batch_size = 256", "batch_size = 4"),
            ("hidden = 128", "hidden = 16"),
            ("warmup = 100", "warmup = 40"),
            (
                "steps = 200\ncount = 2000\nevery = 1000",
                "steps = 3\ncount = 4\nevery = 30",
            ),
            ("[checkpoint]\nevery = 1000", "[checkpoint]\nevery = 1"),
        ],
        features: &[
            ("timesteps = 200", "timesteps = 4"),
            ("batch_size = 4\n", "batch_size = 4\naccumulate = 2\n"),
            (
                "weighting = \"simple\"\n",
                "weighting = \"simple\"\nimportance_sampling = true\nstratified = true\n",
            ),
        ],
    },
];

/// Fewer checkpoints, and fewer of them kept.
const KEEP: Changes = &[("\nevery = 1\n", "\nevery = 2\nkeep_last = 2\n")];

/// More threads that prepare batches, for the resumed processes.
const WORKERS: Changes = &[("[data]\n", "[data]\nworkers = 3\n")];

/// Work that is killed and resumed.
pub(super) struct Case {
    /// Its recipe.
    pub(super) recipe: &'static str,
    /// The name of the work in the table.
    pub(super) work: &'static str,
    /// The names and texts of the files that it needs.
    pub(super) files: Vec<(&'static str, String)>,
    /// Commands that run once before it.
    pub(super) before: &'static [&'static str],
    /// The command of the first process, without `--out FOLDER`.
    pub(super) first: &'static str,
    /// The command that resumes it, without `--out FOLDER`.
    pub(super) later: &'static str,
    /// The file in its folder that the first process writes as soon as it can be resumed.
    pub(super) begun: &'static str,
}

/// The program's recipes made small: the training of each, plain and with features, and sampling from
/// two of them.
pub(super) fn cases(program: &Program, folder: &Path) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for recipe in &RECIPES {
        let text = program.succeed(folder, &format!("recipe {}", recipe.name))?;
        let context = || format!("recipe {}", recipe.name);
        let plain = changed(text, recipe.smaller).with_context(context)?;
        let images = if recipe.name == "swiss-roll" {
            &[]
        } else {
            IMAGES
        };
        let all = [images, recipe.features, KEEP].into_iter();
        let rich = all.into_iter().try_fold(plain.clone(), changed);
        let rich = rich.with_context(context)?;
        let other_workers = changed(rich.clone(), WORKERS).with_context(context)?;
        let name = recipe.name;
        cases.push(training(name, "training", plain.clone(), plain.clone()));
        cases.push(training(
            name,
            "training, all features",
            rich,
            other_workers,
        ));
        if ["digits", "swiss-roll"].contains(&name) {
            cases.push(sampling(name, plain));
        }
    }
    Ok(cases)
}

fn training(recipe: &'static str, work: &'static str, first: String, later: String) -> Case {
    Case {
        recipe,
        work,
        files: vec![("first.toml", first), ("later.toml", later)],
        before: &[],
        first: "train --config first.toml",
        later: "train --config later.toml --resume",
        begun: "config.toml",
    }
}

/// Sampling of thirteen batches, with all files that the program can write.
fn sampling(recipe: &'static str, config: String) -> Case {
    Case {
        recipe,
        work: "sampling",
        files: vec![("first.toml", config)],
        before: &["train --config first.toml --out trained"],
        first: "sample --from trained --num 200 --steps 20 --raw --film",
        later: "sample --from trained --num 200 --steps 20 --raw --film --resume",
        begun: "samples.json",
    }
}

/// A text with all the changes, each made at the first place that fits; there must be one.
pub(super) fn changed(mut text: String, changes: &[(&str, &str)]) -> anyhow::Result<String> {
    for (from, to) in changes {
        ensure!(text.contains(from), "no {from:?} to be replaced");
        text = text.replacen(from, to, 1);
    }
    Ok(text)
}

/// Writes data of the shape of Fashion-MNIST to `folder/idx` and of CIFAR-10 to `folder/cifar10`.
pub(super) fn write_data(folder: &Path) -> anyhow::Result<()> {
    let mut random = Random::new(0);
    write_idx(&folder.join("idx"), 28, &mut random)?;
    let cifar10 = folder.join("cifar10");
    fs::create_dir_all(&cifar10).with_context(|| cifar10.display().to_string())?;
    for batch in 1..=5 {
        let mut bytes = Vec::new();
        for class in 0..8 {
            bytes.push(class);
            bytes.extend((0..3 * 32 * 32).map(|_| random.byte()));
        }
        let path = cifar10.join(format!("data_batch_{batch}.bin"));
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Writes forty images of `side`×`side` pixels and their labels, of ten classes.
pub(super) fn write_idx(folder: &Path, side: u8, random: &mut Random) -> anyhow::Result<()> {
    const COUNT: u8 = 40;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, COUNT, 0, 0, 0, side, 0, 0, 0, side];
    let pixels = usize::from(COUNT) * usize::from(side) * usize::from(side);
    images.extend((0..pixels).map(|_| random.byte()));
    let mut labels = vec![0, 0, 8, 1, 0, 0, 0, COUNT];
    labels.extend((0..COUNT).map(|i| i % 10));
    for (name, bytes) in [
        ("train-images-idx3-ubyte", images),
        ("train-labels-idx1-ubyte", labels),
    ] {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
