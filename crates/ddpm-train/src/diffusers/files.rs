//! The files that hold a folder's weights, and the tensors in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::json::Keys;
use super::tensors::View;
use super::{DiffusersError, Lines, content, pickle, place, safetensors};
use crate::checkpoint::{CheckpointError, io};

/// How the file begins that Git LFS leaves in place of one that it has not fetched.
const GIT_LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What wrappers of PyTorch put into the names: DataParallel and DistributedDataParallel the first,
/// torch.compile the second. No part of the network is called so.
const WRAPPERS: [&str; 2] = ["module", "_orig_mod"];

/// The tensors of one or several files, by the names diffusers has given them since 0.12.
pub(super) struct Weights {
    path: PathBuf,
    files: Vec<Vec<u8>>,
    tensors: BTreeMap<String, (usize, View)>,
}

impl Weights {
    /// The file, or the index of the files.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Names and shapes, in the order of names.
    pub(super) fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, (_, view))| (name.as_str(), view.shape()))
    }

    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(self.tensors.get(name)?.1.shape())
    }

    /// A tensor's values, last index fastest.
    pub(super) fn values(&self, name: &str) -> Option<Vec<f32>> {
        let (file, view) = self.tensors.get(name)?;
        Some(view.values(self.files.get(*file)?))
    }
}

/// The weights in a folder, in the order of diffusers' preference.
///
/// # Errors
///
/// If there are none, or a file is missing or damaged.
pub(super) fn weights(folder: &Path) -> Result<Weights, DiffusersError> {
    for kind in ["safetensors", "bin"] {
        let file = folder.join(format!("diffusion_pytorch_model.{kind}"));
        if file.is_file() {
            return Ok(single(file)?);
        }
        let index = folder.join(format!("diffusion_pytorch_model.{kind}.index.json"));
        if index.is_file() {
            return sharded(folder, index);
        }
    }
    let reason = match variant(folder)? {
        Some((found, whole)) => format!("has only {found}, a variant; rename it to {whole}"),
        None => "holds no diffusion_pytorch_model.safetensors, .bin, or index of either".to_owned(),
    };
    Err(content(folder, reason))
}

/// The name of a variant of the weights, such as that in half precision, and the name of what it is a
/// variant of.
fn variant(folder: &Path) -> Result<Option<(String, String)>, DiffusersError> {
    let whole = |name: &str| {
        let rest = name.strip_prefix("diffusion_pytorch_model.")?;
        Some(match rest.split('.').collect::<Vec<_>>()[..] {
            [_, kind @ ("safetensors" | "bin")] => format!("diffusion_pytorch_model.{kind}"),
            [kind, "index", _, "json"] => format!("diffusion_pytorch_model.{kind}.index.json"),
            _ => return None,
        })
    };
    let names = place::names(folder)?.into_iter();
    let mut variants = names.filter_map(|name| Some((whole(&name)?, name)));
    Ok(variants.next().map(|(whole, name)| (name, whole)))
}

/// The weights in one file.
///
/// # Errors
///
/// If it is missing or damaged.
pub(super) fn single(path: PathBuf) -> Result<Weights, CheckpointError> {
    let (bytes, views) = tensors(&path)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in views {
        if tensors.insert(name.clone(), (0, view)).is_some() {
            let reason = format!("two tensors are called {name}");
            return Err(CheckpointError::content(&path, reason));
        }
    }
    let files = vec![bytes];
    Ok(Weights {
        path,
        files,
        tensors,
    })
}

/// The files an index lists, which must hold exactly what it says they do.
fn sharded(folder: &Path, path: PathBuf) -> Result<Weights, DiffusersError> {
    let mut keys = Keys::read(&path)?;
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

    let (mut files, mut found) = (Vec::new(), BTreeSet::new());
    let mut tensors = BTreeMap::new();
    for (number, &file) in names.iter().enumerate() {
        let (bytes, views) = self::tensors(&folder.join(file))?;
        files.push(bytes);
        for (name, view) in views {
            found.insert((file.to_owned(), name.clone()));
            if tensors.insert(name.clone(), (number, view)).is_some() {
                let reason = format!("two tensors are called {name}");
                return Err(content(&path, reason));
            }
        }
    }
    // The index may use old names or new ones; so may the files.
    let listed = listed
        .into_iter()
        .map(|(file, name)| (file, renamed(&name)));
    let listed: BTreeSet<_> = listed.collect();
    if listed == found {
        return Ok(Weights {
            path,
            files,
            tensors,
        });
    }
    let missing = listed
        .difference(&found)
        .map(|(file, name)| format!("{file} lacks {name}"));
    let surplus = found.difference(&listed);
    let surplus = surplus.map(|(file, name)| format!("{file} has {name}, which is not listed"));
    let lines = Lines(missing.chain(surplus).collect());
    Err(content(
        &path,
        format!("the index and the files disagree{lines}"),
    ))
}

/// Whether a file's name is a name and no path.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let first = components.next();
    matches!(first, Some(Component::Normal(_)))
        && components.next().is_none()
        && !name.contains(['/', '\\'])
}

/// A file's bytes, and the tensors in it by their present names.
type Contents = (Vec<u8>, Vec<(String, View)>);

fn tensors(path: &Path) -> Result<Contents, CheckpointError> {
    let bytes = read_file(path)?;
    let bad = |reason: String| CheckpointError::content(path, reason);
    let extension = path.extension().and_then(|extension| extension.to_str());
    let tensors = match extension {
        Some("safetensors") => safetensors::parse(&bytes),
        Some("bin") => pickle::parse(&bytes),
        _ => Err("neither .safetensors nor .bin".to_owned()),
    };
    let tensors = tensors.map_err(bad)?;
    // A pickle's tensors may share their bytes; if many do, they need more memory than the file has.
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

/// The present name of a tensor of the network itself: attention's layers were called otherwise
/// before diffusers 0.12, and a wrapped network's names begin with the wrapper's.
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

/// Reads a regular file to the length it has now.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let file = File::open(path).map_err(io(path))?;
    let metadata = file.metadata().map_err(io(path))?;
    if !metadata.is_file() {
        return Err(CheckpointError::content(path, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(metadata.len())
        .read_to_end(&mut bytes)
        .map_err(io(path))?;
    if bytes.starts_with(GIT_LFS) {
        let reason = "is a Git LFS pointer, not the file itself; `git lfs pull` in its folder \
                      fetches that";
        return Err(CheckpointError::content(path, reason));
    }
    Ok(bytes)
}
