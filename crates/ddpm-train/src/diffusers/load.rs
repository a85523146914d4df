//! PyTorch's weights into a Burn module.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};

use super::files::Weights;
use super::{DiffusersError, Misfits};

/// The module with all of its parameters replaced.
///
/// # Errors
///
/// If a parameter is missing, unexpected or of another shape; all of them are listed.
pub(super) fn load<M: Module>(module: M, weights: &Weights) -> Result<M, DiffusersError> {
    let mut load = Load {
        weights,
        path: Vec::new(),
        layers: Vec::new(),
        seen: Vec::new(),
        misfits: Misfits::default(),
    };
    let module = module.map(&mut load);
    let Load {
        mut seen,
        mut misfits,
        ..
    } = load;
    seen.sort();
    let unexpected = weights.shapes();
    let unexpected =
        unexpected.filter(|(name, _)| seen.binary_search_by(|s| s.as_str().cmp(name)).is_err());
    misfits.unexpected = unexpected
        .map(|(name, shape)| (name.to_owned(), shape.to_vec()))
        .collect();
    if misfits == Misfits::default() {
        return Ok(module);
    }
    Err(DiffusersError::Weights {
        path: weights.path().to_owned(),
        misfits,
    })
}

/// Replaces parameters while it walks through a module.
struct Load<'a> {
    weights: &'a Weights,
    path: Vec<String>,
    /// The type of the layer at each place of the path.
    layers: Vec<String>,
    seen: Vec<String>,
    misfits: Misfits,
}

impl Load<'_> {
    fn is_in(&self, layer: &str) -> bool {
        self.layers.last().is_some_and(|last| last == layer)
    }

    /// PyTorch's name of the parameter here.
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
        // The shape alone, for weights that may never be drawn.
        let shape = param.lazy_shape().to_vec();
        // Burn's linear layers are [input, output], PyTorch's [output, input].
        let transposed = self.is_in("Struct:Linear") && D == 2;
        let mut expected = shape.clone();
        if transposed {
            expected.reverse();
        }
        self.seen.push(name.clone());
        match self.weights.shape(&name) {
            None => self.misfits.missing.push((name, expected)),
            Some(found) if found != expected => {
                let found = found.to_vec();
                self.misfits.mis_shaped.push((name, expected, found));
            }
            Some(_) => {
                let mut values = self.weights.values(&name).unwrap_or_default();
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
