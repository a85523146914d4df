//! Keys and options that mean nothing to the kind of data, network or sampler are refused by name.

use ddpm_cli::config::{Config, recipe};
use ddpm_cli::plan::Plan;
use ddpm_data::Source;

use crate::field::data::{config, png, write};
use crate::run::{ok, refused, tiny};

/// The plan of a recipe with a line added to a table, or why there is none.
fn planned(name: &str, table: &str, line: &str) -> Result<Plan, String> {
    let (before, rest) = recipe(name)
        .unwrap()
        .split_once(&format!("[{table}]\n"))
        .unwrap();
    // The key may be there already.
    let key = format!("\n{} = ", line.split(' ').next().unwrap());
    let rest = match rest.find("\n[") {
        Some(end) => rest[..end].replacen(&key, "\n# ", 1) + &rest[end..],
        None => rest.replacen(&key, "\n# ", 1),
    };
    let text = format!("{before}[{table}]\n{line}\n{rest}");
    let config = Config::parse(&text, "f.toml").map_err(|e| e.to_string())?;
    Plan::new(config, "f.toml").map_err(|e| e.to_string())
}

#[test]
fn a_key_without_effect_is_refused_by_name() {
    for (name, table, line, key) in [
        ("digits", "data", "path = \"photos\"", "data.path"),
        ("digits", "data", "size = 8", "data.size"),
        ("digits", "data", "channels = 1", "data.channels"),
        ("digits", "data", "points = 8", "data.points"),
        ("digits", "data", "in_memory = true", "data.in_memory"),
        ("swiss-roll", "data", "path = \"photos\"", "data.path"),
        ("swiss-roll", "data", "size = [8, 8]", "data.size"),
        ("swiss-roll", "data", "channels = 3", "data.channels"),
        ("swiss-roll", "data", "flip = true", "data.flip"),
        (
            "swiss-roll",
            "objective",
            "class_dropout = 0.1",
            "objective.class_dropout",
        ),
        (
            "images",
            "objective",
            "class_dropout = 0.1",
            "objective.class_dropout",
        ),
        ("images", "data", "points = 8", "data.points"),
    ] {
        let refusal = planned(name, table, line).map(|_| ()).unwrap_err();
        let words = format!("f.toml: {key}: it means nothing to ");
        assert!(refusal.starts_with(&words), "{line}: {refusal}");
    }
}

/// Keys of the network without effect in one and with an effect in another.
#[test]
fn a_key_of_the_network_without_effect_is_refused_by_name() {
    let levels = "block_out_channels = [32, 64, 64]\nattention = [false, false, true]";
    let planned = |network: &str| {
        let text = recipe("images").unwrap().replace(levels, network);
        let mut config = Config::parse(&text, "f.toml").map_err(|e| e.to_string())?;
        config.data.path = Some("photos".into());
        let plan = Plan::new(config, "f.toml");
        plan.map(|_| ()).map_err(|e| e.to_string())
    };
    let bare = "block_out_channels = [32, 64]\nattention = [false, false]\nmid_attention = false";
    let one = "block_out_channels = [32]\nattention = [true]";
    for (key, value, without, to_what, with) in [
        (
            "null_class",
            "false",
            levels,
            "a network without model.num_classes",
            format!("{levels}\nnum_classes = 3"),
        ),
        (
            "attention_head_dim",
            "8",
            bare,
            "a network that attends nowhere",
            bare.replace("mid_attention = false", "mid_attention = true"),
        ),
        (
            "attention_head_dim",
            "8",
            bare,
            "a network that attends nowhere",
            format!("{bare}\nup_attention = [true, false]"),
        ),
        (
            "mid_attention_norm",
            "false",
            bare,
            "a network of model.mid_attention = false",
            format!("{levels}\nscale_shift = true"),
        ),
        (
            "downsample_padding",
            "0",
            one,
            "a network of one level, which halves nothing",
            levels.to_owned(),
        ),
    ] {
        let line = format!("{key} = {value}");
        let refusal = planned(&format!("{without}\n{line}")).unwrap_err();
        let expected = format!("f.toml: model.{key}: it means nothing to {to_what}; leave it out");
        assert_eq!(refusal, expected);
        assert_eq!(planned(without), Ok(()));
        assert_eq!(planned(&format!("{with}\n{line}")), Ok(()));
    }
}

#[test]
fn the_size_of_images_is_a_side_or_two() {
    let size = |value: &str| planned("images", "data", &format!("size = {value}\npath = \"p\""));
    for (value, expected) in [("8", [8, 8]), ("[16, 8]", [16, 8])] {
        let plan = size(value).unwrap();
        assert!(matches!(plan.source, Source::Images { size, .. } if size == expected));
        // What a run writes down is what it read.
        let text = toml::to_string(&plan.config).unwrap();
        assert_eq!(Config::parse(&text, "run").unwrap(), plan.config);
    }
    for (value, words) in [
        ("0", "data.size: 0×0 must be in 1..=4096"),
        ("[8, 4097]", "data.size: 8×4097 must be in 1..=4096"),
        ("\"large\"", "expected a side or [height, width] in pixels"),
        ("[8, 8, 8]", "expected a side or [height, width] in pixels"),
    ] {
        let refusal = size(value).map(|_| ()).unwrap_err();
        assert!(refusal.contains(words), "{refusal}");
    }
}

#[test]
fn data_that_would_not_be_used_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let way_out = "--recipe images --data photos";
    for command in [
        "train --data photos --out r",
        "train --recipe swiss-roll --data photos --out r",
    ] {
        refused(
            folder,
            command,
            1,
            &["error: --data photos: recipe ", way_out],
        );
    }
    assert!(!folder.join("r").exists());
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run");
    let words = [
        "error: --data photos: ",
        "data.kind = \"digits\"",
        "without --data",
    ];
    refused(folder, "eval nll --from run --data photos", 1, &words);
    refused(
        folder,
        "eval nll --from run --out bits",
        2,
        &["--out", "--shard", "--merge"],
    );
}

/// The data of an evaluation has the classes of the training, of its kind of files.
#[test]
fn an_evaluation_of_other_classes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Without class dropout nothing trains the null class, which could be that of data without labels.
    config(folder, "num_classes = 2");
    for name in [
        "d/cat/0.png",
        "d/dog/0.png",
        "e/cat/0.png",
        "e/owl/0.png",
        "f/cat/0.png",
        "g/0.png",
    ] {
        write(folder, name, &png());
    }
    write(folder, "test_batch.bin", &[0; 3073]);
    ok(folder, "train --config c.toml --out run");
    let eval = "eval nll --from run --num 2 --times 2";
    ok(folder, &format!("{eval} --data d"));
    for (data, words) in [
        (
            "e",
            "the classes are not those of the run: class 1 was dog, but is owl in the data",
        ),
        ("f", "model.num_classes is 2, but the data has 1 classes"),
        ("g", "model.num_classes is 2, but the data has no labels"),
        (
            "test_batch.bin",
            "data of the run's kind, \"images\": test_batch.bin: expected a folder",
        ),
    ] {
        refused(folder, &format!("{eval} --data {data}"), 1, &[words]);
    }
}
