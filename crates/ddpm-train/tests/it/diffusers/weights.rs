//! Weights that are not the network's are refused, all of them by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ddpm_train::diffusers;
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
    assert!(message.contains(FILE), "{message}");
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
