//! Loads PyTorch's weights into a Burn module.

use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use ddpm_files::FileError;

use super::lines::Lines;
use super::stored::Weights;

/// A module with the weights of a `.safetensors` file in PyTorch's layout.
///
/// # Errors
///
/// If the file cannot be read or is damaged, and the errors of [`load`].
pub fn load_module<M: Module>(path: &Path, module: M) -> Result<M, FileError> {
    load(module, &Weights::read(path)?)
}

/// The module with all of its parameters replaced.
///
/// # Errors
///
/// If a parameter is missing, unexpected or of another shape, or a value is not finite.
pub fn load<M: Module>(module: M, weights: &Weights) -> Result<M, FileError> {
    let mut load = Load {
        weights,
        path: Vec::new(),
        layers: Vec::new(),
        seen: Vec::new(),
        misfits: Misfits::default(),
        not_finite: None,
    };
    let module = module.map(&mut load);
    let Load {
        mut seen,
        mut misfits,
        not_finite,
        ..
    } = load;
    seen.sort();
    let unexpected = weights.shapes();
    let unexpected =
        unexpected.filter(|(name, _)| seen.binary_search_by(|s| s.as_str().cmp(name)).is_err());
    misfits.unexpected = unexpected
        .map(|(name, shape)| format!("unexpected {name} {shape:?}"))
        .collect();
    match misfits.reason().or(not_finite) {
        None => Ok(module),
        Some(reason) => Err(FileError::content(weights.path(), reason)),
    }
}

/// Tensors that do not fit, one line each.
#[derive(Default)]
struct Misfits {
    /// Tensors of the network that are not in the file.
    missing: Vec<String>,
    /// Tensors of the file that the network does not have.
    unexpected: Vec<String>,
    /// Tensors of both, of different shapes.
    mis_shaped: Vec<String>,
}

impl Misfits {
    /// The message, if any tensor does not fit.
    fn reason(self) -> Option<String> {
        let kinds = [self.missing, self.unexpected, self.mis_shaped];
        let [missing, unexpected, mis_shaped] = kinds.each_ref().map(Vec::len);
        let longest = missing.max(unexpected).max(mis_shaped);
        // The kinds alternate, so that the first lines show some of each.
        let lines = (0..longest).flat_map(|i| kinds.iter().filter_map(move |kind| kind.get(i)));
        let lines = Lines(lines.cloned().collect());
        (longest > 0).then(|| {
            format!(
                "these are not the network's weights: {missing} missing, {unexpected} \
                 unexpected, {mis_shaped} mis-shaped{lines}"
            )
        })
    }
}

/// Replaces the parameters of a module.
struct Load<'a> {
    weights: &'a Weights,
    path: Vec<String>,
    /// The type of the layer at each position of the path.
    layers: Vec<String>,
    seen: Vec<String>,
    misfits: Misfits,
    /// A message about the first tensor with a value that is not finite.
    not_finite: Option<String>,
}

impl Load<'_> {
    fn is_in(&self, layer: &str) -> bool {
        self.layers.last().is_some_and(|last| last == layer)
    }

    /// PyTorch's name of the current parameter.
    fn name(&self) -> String {
        let path = self.path.join(".");
        if !self.is_in("Struct:GroupNorm") {
            return path;
        }
        match path.rsplit_once('.') {
            Some((norm, "gamma")) => format!("{norm}.weight"),
            Some((norm, "beta")) => format!("{norm}.bias"),
            _ => path,
        }
    }
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push(name.to_owned());
        self.layers.push(container_type.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
        self.layers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.name();
        // Only the shape, because the initial weights may never be drawn.
        let shape = param.lazy_shape().to_vec();
        // Burn's linear layers are [input, output], PyTorch's [output, input].
        let transposed = self.is_in("Struct:Linear") && D == 2;
        let mut expected = shape.clone();
        if transposed {
            expected.reverse();
        }
        self.seen.push(name.clone());
        match self.weights.shape(&name) {
            None => {
                let line = format!("missing {name} {expected:?}");
                self.misfits.missing.push(line);
            }
            Some(found) if found != expected => {
                let line = format!("mis-shaped {name} {found:?}, not {expected:?}");
                self.misfits.mis_shaped.push(line);
            }
            Some(_) => {
                let mut values = self.weights.values(&name).unwrap_or_default();
                if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                    self.not_finite.get_or_insert_with(|| {
                        format!("{name} holds {value}; the weights of a network are finite")
                    });
                }
                if transposed {
                    values = transpose(&values, shape[0]);
                }
                let data = TensorData::new(values, shape);
                let tensor = Tensor::from_data(data, &param.lazy_device());
                let id = param.id;
                return param.transform_for_load(tensor, id);
            }
        }
        param
    }
}

/// The transpose of a matrix with rows of `width`.
fn transpose(values: &[f32], width: usize) -> Vec<f32> {
    let rows = values.len() / width.max(1);
    let columns = 0..width;
    columns
        .flat_map(|j| (0..rows).map(move |i| values[i * width + j]))
        .collect()
}
