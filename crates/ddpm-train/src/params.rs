//! A network's parameters as named, flat vectors: what the optimizer and the average work on.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use ddpm_kernels::square_sum;

use crate::ranks::{Ranks, RanksError};

/// One vector per parameter, keyed by its path in the network (`down_blocks.0.resnets.1.conv1.weight`).
pub type Named = BTreeMap<String, Tensor<1>>;

/// Shapes of parameters, by the same paths.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// The values of all parameters, outside any autodiff graph.
pub fn values<M: Module>(module: &M) -> Named {
    collect(module, None)
}

/// The gradients of all parameters that have one.
pub fn gradients<M: Module>(module: &M, gradients: &Gradients) -> Named {
    collect(module, Some(gradients))
}

/// The shapes of the parameters that are trained: those of a module on an autodiff device that require
/// gradients.
pub fn trained<M: Module>(module: &M) -> Shapes {
    shapes(module, true)
}

/// The shapes of the parameters that are not trained.
pub fn frozen<M: Module>(module: &M) -> Shapes {
    shapes(module, false)
}

fn shapes<M: Module>(module: &M, trained: bool) -> Shapes {
    let mut collect = CollectShapes {
        path: Vec::new(),
        trained,
        shapes: Shapes::new(),
    };
    module.visit(&mut collect);
    collect.shapes
}

/// Replaces every parameter by `update(path, value)`, both flat and outside any graph; whether it
/// is trained stays as it was.
pub fn update<M: Module>(module: M, update: impl FnMut(&str, Tensor<1>) -> Tensor<1>) -> M {
    module.map(&mut Update {
        path: Vec::new(),
        update,
    })
}

/// Adds `other` to `sum`, name by name.
pub fn add(sum: &mut Named, other: Named) {
    for (name, tensor) in other {
        let total = match sum.remove(&name) {
            Some(so_far) => so_far + tensor,
            None => tensor,
        };
        sum.insert(name, total);
    }
}

/// Values that are summed over the ranks in one message.
const BUCKET: usize = 1 << 22;

/// Replaces every vector by its sum over the ranks.
///
/// Messages hold whole vectors, so many that a message is long enough for what it costs to send one
/// at all, and short enough not to double the memory that gradients take.
///
/// # Errors
///
/// If a tensor cannot be read from its device.
pub fn sum_over(ranks: &Ranks, named: &mut Named) -> Result<(), RanksError> {
    if ranks.size() == 1 {
        return Ok(());
    }
    let mut bucket: Vec<&mut Tensor<1>> = Vec::new();
    let mut length = 0;
    for tensor in named.values_mut() {
        length += tensor.dims()[0];
        bucket.push(tensor);
        if length >= BUCKET {
            sum_bucket(ranks, std::mem::take(&mut bucket))?;
            length = 0;
        }
    }
    sum_bucket(ranks, bucket)
}

fn sum_bucket(ranks: &Ranks, bucket: Vec<&mut Tensor<1>>) -> Result<(), RanksError> {
    if bucket.is_empty() {
        return Ok(());
    }
    let lengths: Vec<_> = bucket.iter().map(|tensor| tensor.dims()[0]).collect();
    let values = Tensor::cat(bucket.iter().map(|tensor| (**tensor).clone()).collect(), 0);
    let sums = ranks.sum(values)?.split_with_sizes(lengths, 0);
    for (tensor, sum) in bucket.into_iter().zip(sums) {
        *tensor = sum;
    }
    Ok(())
}

/// The Euclidean norm of all vectors taken together.
pub fn norm(named: &Named) -> f64 {
    let squares: Vec<Tensor<1>> = named.values().cloned().map(square_sum).collect();
    if squares.is_empty() {
        return 0.0;
    }
    // One read from the device; the few sums are added on the host in f64, in the order of names.
    let squares = Tensor::cat(squares, 0).into_data();
    squares.iter::<f64>().sum::<f64>().sqrt()
}

fn collect<M: Module>(module: &M, gradients: Option<&Gradients>) -> Named {
    let mut collect = Collect {
        path: Vec::new(),
        gradients,
        named: Named::new(),
    };
    module.visit(&mut collect);
    collect.named
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.shape().num_elements();
    tensor.reshape([count])
}

/// Gathers the gradients, or the values when there are none to look up.
struct Collect<'a> {
    path: Vec<String>,
    gradients: Option<&'a Gradients>,
    named: Named,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = match self.gradients {
            Some(gradients) => param.val().grad(gradients),
            None => Some(param.val().inner()),
        };
        if let Some(value) = value {
            self.named.insert(self.path.join("."), flat(value));
        }
    }
}

/// Gathers the shapes of the parameters that are trained, or of the others.
struct CollectShapes {
    path: Vec<String>,
    trained: bool,
    shapes: Shapes,
}

impl ModuleVisitor for CollectShapes {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() == self.trained {
            self.shapes
                .insert(self.path.join("."), value.dims().to_vec());
        }
    }
}

struct Update<F> {
    path: Vec<String>,
    update: F,
}

impl<F: FnMut(&str, Tensor<1>) -> Tensor<1>> ModuleMapper for Update<F> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let (shape, autodiff, tracked) = (
            tensor.shape(),
            tensor.is_autodiff(),
            tensor.is_require_grad(),
        );
        let value = (self.update)(&self.path.join("."), flat(tensor.inner())).reshape(shape);
        let value = if autodiff {
            value.autodiff().set_require_grad(tracked)
        } else {
            value
        };
        Param::from_mapped_value(id, value, mapper)
    }
}
