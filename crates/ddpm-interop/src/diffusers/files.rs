//! The files that hold a folder's weights, and the tensors in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path};

use ddpm_files::{FileError, io};
use ddpm_model::weights::{self, Lines, View, Weights, read_file};

use super::error::{DiffusersError, content};
use super::json::Keys;
use super::pickle;

/// The prefixes that PyTorch's wrappers add to names: DataParallel and DistributedDataParallel add
/// the first, torch.compile the second. No part of the network has these names.
const WRAPPERS: [&str; 2] = ["module", "_orig_mod"];

/// The weights in a folder, in the order of diffusers' preference.
///
/// # Errors
///
/// If there are none, or a file is missing or damaged.
pub(super) fn weights(folder: &Path) -> Result<Weights, DiffusersError> {
    for kind in ["safetensors", "bin"] {
        let file = folder.join(format!("diffusion_pytorch_model.{kind}"));
        if file.is_file() {
            return Ok(single(&file)?);
        }
        let index = folder.join(format!("diffusion_pytorch_model.{kind}.index.json"));
        if index.is_file() {
            return sharded(folder, &index);
        }
    }
    let reason = match variant(folder)? {
        Some((found, whole)) => format!("has only {found}, a variant; rename it to {whole}"),
        None => "holds no diffusion_pytorch_model.safetensors, .bin, or index of either".to_owned(),
    };
    Err(content(folder, reason))
}

/// The file name of a variant of the weights, such as half precision, and the name of the plain
/// weights.
fn variant(folder: &Path) -> Result<Option<(String, String)>, DiffusersError> {
    let whole = |name: &str| {
        let rest = name.strip_prefix("diffusion_pytorch_model.")?;
        Some(match rest.split('.').collect::<Vec<_>>()[..] {
            [_, kind @ ("safetensors" | "bin")] => format!("diffusion_pytorch_model.{kind}"),
            [kind, "index", _, "json"] => format!("diffusion_pytorch_model.{kind}.index.json"),
            _ => return None,
        })
    };
    let names = names(folder)?.into_iter();
    let mut variants = names.filter_map(|name| Some((whole(&name)?, name)));
    Ok(variants.next().map(|(whole, name)| (name, whole)))
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Result<Vec<String>, DiffusersError> {
    let entries = fs::read_dir(folder).map_err(io(folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io(folder))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The weights in one file.
///
/// # Errors
///
/// If it is missing or damaged.
fn single(path: &Path) -> Result<Weights, FileError> {
    let (bytes, tensors) = tensors(path)?;
    let mut weights = Weights::new(path.to_owned());
    let added = weights.add(bytes, tensors);
    added.map_err(|reason| FileError::content(path, reason))?;
    Ok(weights)
}

/// The weights in the files of an index. They must contain exactly the tensors that it lists.
fn sharded(folder: &Path, path: &Path) -> Result<Weights, DiffusersError> {
    let mut keys = Keys::read(path)?;
    keys.take("metadata", serde_json::Value::Null)?;
    let listed: BTreeMap<String, String> = keys.take("weight_map", BTreeMap::new())?;
    let listed: BTreeSet<(String, String)> = listed
        .into_iter()
        .map(|(name, file)| (file, name))
        .collect();
    let names: BTreeSet<&str> = listed.iter().map(|(file, _)| file.as_str()).collect();
    if let Some(outside) = names.iter().find(|name| !is_plain(name)) {
        let reason = "a file of the index must be in the index's folder";
        return Err(keys.bad("weight_map", &(*outside).into(), reason));
    }
    keys.finish()?;

    let mut found = BTreeSet::new();
    let mut weights = Weights::new(path.to_owned());
    for &file in &names {
        let (bytes, tensors) = self::tensors(&folder.join(file))?;
        found.extend(
            tensors
                .iter()
                .map(|(name, _)| (file.to_owned(), name.clone())),
        );
        let added = weights.add(bytes, tensors);
        added.map_err(|reason| content(path, reason))?;
    }
    // Both the index and the files may use old or new names.
    let listed = listed
        .into_iter()
        .map(|(file, name)| (file, renamed(&name)));
    let listed: BTreeSet<_> = listed.collect();
    if listed == found {
        return Ok(weights);
    }
    let missing = listed
        .difference(&found)
        .map(|(file, name)| format!("{file} lacks {name}"));
    let surplus = found.difference(&listed);
    let surplus = surplus.map(|(file, name)| format!("{file} has {name}, which is not listed"));
    let lines = Lines(missing.chain(surplus).collect());
    Err(content(
        path,
        format!("the index and the files disagree{lines}"),
    ))
}

/// Whether a file's name is a plain name, not a path.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let first = components.next();
    matches!(first, Some(Component::Normal(_)))
        && components.next().is_none()
        && !name.contains(['/', '\\'])
}

/// A file's bytes, and its tensors by their current names.
type Contents = (Vec<u8>, Vec<(String, View)>);

fn tensors(path: &Path) -> Result<Contents, FileError> {
    let bytes = read_file(path)?;
    let bad = |reason: String| FileError::content(path, reason);
    let extension = path.extension().and_then(|extension| extension.to_str());
    let tensors = match extension {
        Some("safetensors") => weights::parse(&bytes),
        Some("bin") => pickle::parse(&bytes),
        _ => Err("neither .safetensors nor .bin".to_owned()),
    };
    let tensors = tensors.map_err(bad)?;
    // The tensors of a pickle may share bytes; many of them could need more memory than the size of
    // the file.
    let sizes = tensors.iter().map(|(_, view)| view.size());
    let total = sizes.fold(0, usize::saturating_add);
    if total > bytes.len() {
        return Err(bad("its tensors overlap".to_owned()));
    }
    let tensors = tensors
        .into_iter()
        .map(|(name, view)| (renamed(&name), view));
    let tensors = tensors.collect();
    Ok((bytes, tensors))
}

/// The current name of a network's tensor: the attention layers had other names before diffusers
/// 0.12, and the names of a wrapped network have the wrapper's prefix.
fn renamed(name: &str) -> String {
    let mut parts: Vec<&str> = name.split('.').collect();
    parts.retain(|part| !WRAPPERS.contains(part));
    if let [.., "attentions", _, layer, _] = &mut parts[..] {
        *layer = match *layer {
            "query" => "to_q",
            "key" => "to_k",
            "value" => "to_v",
            "proj_attn" => "to_out.0",
            present => present,
        };
    }
    parts.join(".")
}
