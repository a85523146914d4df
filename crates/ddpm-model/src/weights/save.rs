//! Tensors as safetensors files: networks in PyTorch's layout, others by name.

use ::safetensors::tensor::{Dtype, TensorView};
use burn::module::Module;
use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot, SafetensorsStore};

use super::safetensors::parse;

/// A network's weights as a safetensors file in PyTorch's layout.
///
/// # Errors
///
/// If the weights cannot be read from their device.
pub fn module_bytes<M: Module>(module: &M) -> Result<Vec<u8>, String> {
    // PyTorch's readers need this entry of metadata. A second one would make their order random, and
    // equal weights should give equal files.
    let mut store = SafetensorsStore::from_bytes(None)
        .clear_metadata()
        .metadata("format", "pt")
        .with_to_adapter(BurnToPyTorchAdapter)
        .skip_enum_variants(true);
    module.save_into(&mut store).map_err(|e| e.to_string())?;
    store.get_bytes().map_err(|e| e.to_string())
}

/// Named f32 tensors as a safetensors file.
///
/// # Errors
///
/// If a shape does not match the number of its values.
pub fn tensor_bytes<'a>(
    tensors: impl Iterator<Item = (&'a str, Vec<usize>, &'a [f32])>,
) -> Result<Vec<u8>, String> {
    let bytes: Vec<_> = tensors
        .map(|(name, shape, values)| {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (*name, view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())?;
    ::safetensors::serialize(views, None).map_err(|e| e.to_string())
}

/// The first tensor of a safetensors file that holds a value that is not finite.
///
/// # Errors
///
/// If the file is damaged.
pub fn not_finite(bytes: &[u8]) -> Result<Option<String>, String> {
    let tensors = parse(bytes)?.into_iter();
    let mut bad = tensors.filter(|(_, view)| !view.values(bytes).iter().all(|v| v.is_finite()));
    Ok(bad.next().map(|(name, _)| name))
}
