//! Any optimizer of Burn.

use std::collections::BTreeMap;
use std::fmt;

use burn::optim::{DynOptimizer, DynState, StateSink, StateSource};
use burn::tensor::{Device, Tensor, TensorData};

use super::optimizer::{Optimizer, Parameter, Step};
use super::state::{OptimizerState, Scalar};
use crate::params::Shapes;

/// An optimizer of Burn, on named parameters.
///
/// ```
/// use burn::optim::LionConfig;
/// use ddpm_train::optim::BurnOptimizer;
///
/// let config = LionConfig::new();
/// let lion = BurnOptimizer::new(format!("Lion {config}"), config.build());
/// ```
///
/// A checkpoint holds its state as Burn names it, `NAME.moment_1` for example. Tensors of the state must
/// have as many axes as their parameter, each of the parameter's length or of length 1. Those of all
/// optimizers of burn-optim have.
#[derive(Clone)]
pub struct BurnOptimizer<O> {
    identity: String,
    optimizer: O,
    states: BTreeMap<String, DynState>,
}

impl<O> fmt::Debug for BurnOptimizer<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.identity)
    }
}

impl<O: burn::optim::Optimizer> BurnOptimizer<O> {
    /// An optimizer that has seen nothing. `identity` is its name and its numbers: a run is resumed by
    /// an optimizer of the same text only.
    pub fn new(identity: impl Into<String>, optimizer: O) -> Self {
        Self {
            identity: identity.into(),
            optimizer,
            states: BTreeMap::new(),
        }
    }

    /// The step of a parameter of `D` axes.
    fn step_at<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
        [value, gradient]: [Tensor<1>; 2],
        learning_rate: f64,
    ) -> Tensor<1> {
        let length = value.dims();
        let state = self.states.remove(name);
        let (value, state) = self.optimizer.step(
            learning_rate,
            value.reshape(shape),
            gradient.reshape(shape),
            state.map(DynState::downcast::<O::State<D>>),
        );
        if let Some(state) = state {
            let state = DynState::create(state, D);
            self.states.insert(name.to_owned(), state);
        }
        value.reshape(length)
    }
}

impl<O: burn::optim::Optimizer> Optimizer for BurnOptimizer<O> {
    fn identity(&self) -> String {
        self.identity.clone()
    }

    /// # Panics
    ///
    /// If the parameter has more than six axes, and as the optimizer does.
    fn step(&mut self, parameter: Parameter, gradient: Tensor<1>, step: &Step) -> Tensor<1> {
        let Parameter { name, shape, value } = parameter;
        let gradient = if step.clip == 1.0 {
            gradient
        } else {
            gradient * step.clip
        };
        let (pair, rate) = ([value, gradient], step.learning_rate);
        match *shape {
            [] => self.step_at(name, [1], pair, rate),
            [a] => self.step_at(name, [a], pair, rate),
            [a, b] => self.step_at(name, [a, b], pair, rate),
            [a, b, c] => self.step_at(name, [a, b, c], pair, rate),
            [a, b, c, d] => self.step_at(name, [a, b, c, d], pair, rate),
            [a, b, c, d, e] => self.step_at(name, [a, b, c, d, e], pair, rate),
            [a, b, c, d, e, f] => self.step_at(name, [a, b, c, d, e, f], pair, rate),
            _ => panic!("{name} has the shape {shape:?} of more than six axes"),
        }
    }

    fn state(&self) -> Result<OptimizerState, String> {
        let mut sink = StateSink::default();
        for (name, state) in &self.states {
            DynOptimizer::state_flatten(&self.optimizer, name, state, &mut sink);
        }
        let scalars = sink.scalars.into_iter().map(|(name, scalar)| {
            let bool = bool::try_from(scalar).map(Scalar::Bool);
            let scalar = bool
                .or_else(|_| u64::try_from(scalar).map(Scalar::UInt))
                .or_else(|_| i64::try_from(scalar).map(Scalar::Int))
                .or_else(|_| f64::try_from(scalar).map(Scalar::Float));
            Ok((name, scalar.map_err(|e| e.to_string())?))
        });
        Ok(OptimizerState {
            tensors: sink.tensors.into_iter().collect(),
            scalars: scalars.collect::<Result<_, String>>()?,
        })
    }

    fn restore(
        &mut self,
        state: OptimizerState,
        shapes: &Shapes,
        device: &Device,
    ) -> Result<(), String> {
        let scalars = state.scalars.iter().map(|(name, &scalar)| {
            let scalar = match scalar {
                Scalar::Bool(value) => value.into(),
                Scalar::UInt(value) => value.into(),
                Scalar::Int(value) => value.into(),
                Scalar::Float(value) => value.into(),
            };
            (name.clone(), scalar)
        });
        let mut source = StateSource::new(scalars.collect());
        for (name, data) in &state.tensors {
            check(name, data, shapes)?;
            source.insert_tensor(name.clone(), data.clone());
        }
        let mut states = BTreeMap::new();
        for (name, shape) in shapes {
            let rank = shape.len().max(1);
            let found = self
                .optimizer
                .state_unflatten(rank, name, &mut source, device);
            states.extend(found.map(|state| (name.clone(), state)));
        }
        self.states = states;
        // What was not read belongs to another optimizer.
        let read = self.state()?;
        let names = |state: &OptimizerState| -> Vec<String> {
            let names = state.tensors.keys().chain(state.scalars.keys());
            names.cloned().collect()
        };
        let read = names(&read);
        match names(&state).iter().find(|name| !read.contains(name)) {
            Some(name) => Err(format!("{name} is no state of {}", self.identity)),
            None => Ok(()),
        }
    }

    fn boxed(&self) -> Box<dyn Optimizer> {
        Box::new(self.clone())
    }
}

/// Whether a tensor fits the parameter whose state it is, so that no operation on both panics.
fn check(name: &str, data: &TensorData, shapes: &Shapes) -> Result<(), String> {
    let of_parameter = |path: &str| {
        let rest = name.strip_prefix(path);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let mut parameters = shapes.iter().rev();
    let Some((path, shape)) = parameters.find(|(path, _)| of_parameter(path)) else {
        return Err(format!(
            "{name} is no state of a trained parameter of the network"
        ));
    };
    let shape = if shape.is_empty() { &[1][..] } else { shape };
    let fits = data.shape().len() == shape.len()
        && data
            .shape()
            .iter()
            .zip(shape)
            .all(|(&n, &m)| n == m || n == 1);
    if fits {
        return Ok(());
    }
    Err(format!(
        "{name} has the shape {:?}, and {path} has {shape:?}",
        data.shape()
    ))
}
