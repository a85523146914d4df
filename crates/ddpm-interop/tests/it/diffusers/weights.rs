//! Weights that are not the network's are refused, all of them by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ddpm_interop::diffusers;
use ddpm_model::weights::module_bytes;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::{built, copy, edit, fixture, refusal};

const FILE: &str = "diffusion_pytorch_model.safetensors";
const INDEX: &str = "diffusion_pytorch_model.safetensors.index.json";

/// Name, type, shape and bytes of each tensor.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Rewrites a safetensors file.
fn rewrite(path: &Path, change: impl FnOnce(&mut Tensors)) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let (dtype, shape) = (view.dtype(), view.shape().to_vec());
        (name, (dtype, shape, view.data().to_vec()))
    });
    let mut tensors = tensors.collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
        (name, view)
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn missing_unexpected_and_mis_shaped_are_listed_together() {
    let folder = copy("flat");
    rewrite(&folder.path().join(FILE), |tensors| {
        tensors.remove("conv_in.bias").unwrap();
        tensors
            .remove("mid_block.attentions.0.group_norm.weight")
            .unwrap();
        let one = (Dtype::F32, vec![1], vec![0; 4]);
        tensors.insert("conv_mid.bias".to_owned(), one.clone());
        tensors.insert("ema.decay".to_owned(), one.clone());
        // As many numbers as there were, but the transpose's shape.
        let linear = tensors.get_mut("time_embedding.linear_1.weight").unwrap();
        linear.1.reverse();
        tensors.insert("conv_out.bias".to_owned(), one);
    });
    let message = refusal(folder.path());
    for line in [
        "missing conv_in.bias [4]",
        "missing mid_block.attentions.0.group_norm.weight [8]",
        "unexpected conv_mid.bias [1]",
        "unexpected ema.decay [1]",
        "mis-shaped time_embedding.linear_1.weight [4, 16], not [16, 4]",
        "mis-shaped conv_out.bias [1], not [3]",
    ] {
        assert!(
            message.contains(&format!("\n  {line}")),
            "{line}: {message}"
        );
    }
    assert_eq!(message.lines().count(), 1 + 6, "{message}");
    let first = format!(
        "{}: these are not the network's weights: 2 missing, 2 unexpected, 2 mis-shaped\n",
        folder.path().join(FILE).display()
    );
    assert!(message.starts_with(&first), "{message}");
}

/// Of a file of another network ten tensors are shown, some of each kind.
#[test]
fn ten_misfits_are_listed_and_the_others_counted() {
    let folder = copy("flat");
    let mut tensors = 0;
    rewrite(&folder.path().join(FILE), |found| {
        tensors = found.len();
        let one = (Dtype::F32, vec![1], vec![0; 4]);
        *found = (0..100)
            .map(|i| (format!("layer.{i}"), one.clone()))
            .collect();
    });
    let message = refusal(folder.path());
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines.len(), 1 + 10 + 1, "{message}");
    let counts = format!(": {tensors} missing, 100 unexpected, 0 mis-shaped");
    assert!(lines[0].ends_with(&counts), "{message}");
    for kind in ["missing", "unexpected"] {
        let of_kind = lines[1..11].iter().filter(|line| line.contains(kind));
        assert_eq!(of_kind.count(), 5, "{message}");
    }
    assert_eq!(lines[11], format!("  and {} more", tensors + 100 - 10));
}

/// Names as PyTorch's wrappers make them, alone, within each other or around a part, are the
/// network's.
#[test]
fn the_prefixes_of_wrappers_are_removed() {
    let expected = module_bytes(&built(&fixture("flat").join("theirs")).unwrap()).unwrap();
    for prefix in ["module.", "_orig_mod.", "module._orig_mod."] {
        let folder = copy("flat");
        rewrite(&folder.path().join(FILE), |tensors| {
            let named = std::mem::take(tensors).into_iter();
            *tensors = named
                .map(|(name, t)| (format!("{prefix}{name}"), t))
                .collect();
        });
        let found = built(folder.path()).unwrap();
        assert!(module_bytes(&found).unwrap() == expected, "{prefix}");
    }
    // Every file of several, and their index.
    let expected = module_bytes(&built(&fixture("sharded").join("theirs")).unwrap()).unwrap();
    let folder = copy("sharded");
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "safetensors") {
            rewrite(&path, |tensors| {
                let named = std::mem::take(tensors).into_iter();
                *tensors = named
                    .map(|(name, t)| (format!("module.{name}"), t))
                    .collect();
            });
        }
    }
    edit(&folder.path().join(INDEX), |index| {
        let map = index["weight_map"].as_object_mut().unwrap();
        let named = std::mem::take(map).into_iter();
        *map = named
            .map(|(name, file)| (format!("module.{name}"), file))
            .collect();
    });
    assert!(module_bytes(&built(folder.path()).unwrap()).unwrap() == expected);
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    for (value, shown) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
    ] {
        let folder = copy("flat");
        rewrite(&folder.path().join(FILE), |tensors| {
            let bias = tensors.get_mut("conv_in.bias").unwrap();
            bias.2[4..8].copy_from_slice(&value.to_le_bytes());
        });
        let message = format!(
            "{}: conv_in.bias holds {shown}; the weights of a network are finite",
            folder.path().join(FILE).display()
        );
        assert_eq!(refusal(folder.path()), message);
    }
}

#[test]
fn a_variant_alone_is_named_with_the_name_that_is_read() {
    for (fixture, whole, variant) in [
        ("flat", FILE, "diffusion_pytorch_model.fp16.safetensors"),
        (
            "pickled",
            "diffusion_pytorch_model.bin",
            "diffusion_pytorch_model.non_ema.bin",
        ),
        (
            "sharded",
            INDEX,
            "diffusion_pytorch_model.safetensors.index.fp16.json",
        ),
    ] {
        let folder = copy(fixture);
        let folder = folder.path();
        fs::rename(folder.join(whole), folder.join(variant)).unwrap();
        let message = format!(
            "{}: has only {variant}, a variant; rename it to {whole}",
            folder.display()
        );
        assert_eq!(refusal(folder), message);
        fs::rename(folder.join(variant), folder.join(whole)).unwrap();
        assert!(built(folder).is_ok());
        // Beside the whole it is nothing.
        fs::write(folder.join(variant), "").unwrap();
        assert!(built(folder).is_ok());
    }
}

#[test]
fn a_git_lfs_pointer_is_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n";
    for (fixture, file) in [
        ("flat", FILE),
        ("flat", "config.json"),
        ("pickled", "diffusion_pytorch_model.bin"),
        ("sharded", INDEX),
    ] {
        let folder = copy(fixture);
        let file = folder.path().join(file);
        fs::write(&file, pointer).unwrap();
        let message = format!(
            "{}: is a Git LFS pointer, not the file itself; `git lfs pull` in its folder fetches \
             that",
            file.display()
        );
        assert_eq!(refusal(folder.path()), message);
    }
}

/// As the format's own crate reads them.
#[test]
fn the_tensors_are_the_files() {
    let folder = fixture("flat").join("theirs");
    let bytes = fs::read(folder.join(FILE)).unwrap();
    let mut expected: Vec<_> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
        .collect();
    expected.sort();
    let unet = diffusers::unet(&folder).unwrap();
    let found: Vec<_> = unet
        .tensors()
        .map(|(name, shape, values)| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            (name.to_owned(), shape.to_vec(), bytes.collect())
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_name_old_and_new_is_two_tensors() {
    let folder = copy("flat");
    rewrite(&folder.path().join(FILE), |tensors| {
        let same = tensors["mid_block.attentions.0.to_q.weight"].clone();
        tensors.insert("mid_block.attentions.0.query.weight".to_owned(), same);
    });
    let message = refusal(folder.path());
    let words = "two tensors are called mid_block.attentions.0.to_q.weight";
    assert!(message.contains(words), "{message}");
}

#[test]
fn other_types_than_those_of_weights_are_refused() {
    for (dtype, size) in [(Dtype::F64, 8), (Dtype::I32, 4), (Dtype::U8, 1)] {
        let folder = copy("flat");
        rewrite(&folder.path().join(FILE), |tensors| {
            let bias = (dtype, vec![4], vec![0; 4 * size]);
            tensors.insert("conv_in.bias".to_owned(), bias);
        });
        let message = refusal(folder.path());
        assert!(message.contains("conv_in.bias"), "{message}");
        assert!(message.contains("F32, F16 or BF16"), "{message}");
    }
}

#[test]
fn a_folder_without_weights_says_what_it_looked_for() {
    let folder = copy("flat");
    fs::remove_file(folder.path().join(FILE)).unwrap();
    let message = refusal(folder.path());
    assert!(
        message.contains(FILE) && message.contains(".bin"),
        "{message}"
    );
}

/// The name of a file of the index.
fn shard(folder: &Path) -> String {
    let index = fs::read(folder.join(INDEX)).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    index["weight_map"]["conv_in.bias"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn an_index_that_leaves_its_folder_is_refused() {
    let outside = copy("flat");
    let folder = copy("sharded");
    assert!(built(folder.path()).is_ok());
    let absolute = outside.path().join(FILE).display().to_string();
    let nested = format!(
        "../{}/{FILE}",
        outside.path().file_name().unwrap().display()
    );
    for name in [
        &absolute,
        &nested,
        "..",
        ".",
        "",
        "a/b.safetensors",
        "a\\b.safetensors",
        "./x",
    ] {
        edit(&folder.path().join(INDEX), |index| {
            index["weight_map"]["conv_in.bias"] = json!(name);
        });
        let message = refusal(folder.path());
        let words = "must be in the index's folder";
        assert!(message.contains(words), "{name}: {message}");
    }
}

#[test]
fn an_index_must_be_of_its_files() {
    let folder = copy("sharded");
    let name = shard(folder.path());
    edit(&folder.path().join(INDEX), |index| {
        let map = index["weight_map"].as_object_mut().unwrap();
        map.remove("conv_in.weight");
        map.insert("conv_mid.weight".to_owned(), json!(name));
    });
    let message = refusal(folder.path());
    assert!(
        message.contains(&format!("{name} lacks conv_mid.weight")),
        "{message}"
    );
    let words = format!("{name} has conv_in.weight, which is not listed");
    assert!(message.contains(&words), "{message}");

    let folder = copy("sharded");
    fs::remove_file(folder.path().join(&name)).unwrap();
    assert!(refusal(folder.path()).contains(&name));

    let folder = copy("sharded");
    edit(&folder.path().join(INDEX), |index| {
        index.insert("wieght_map".to_owned(), json!({}));
    });
    assert!(refusal(folder.path()).contains("unknown keys: wieght_map"));
}
