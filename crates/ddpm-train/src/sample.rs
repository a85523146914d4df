//! Drawing samples: the reverse process from reproducible noise, in batches.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_kernels::keep_packed_weights;
use ddpm_process::{Clipped, Denoiser, Guided, NoiseStream, Predictor, Reverse};
use ddpm_schedule::Objective;

use crate::network::{Network, class_tensor};
use crate::picture::Samples;
use crate::plan::SamplingPlan;

/// Rows the network sees at once.
///
/// It is always this many: matrix kernels may round differently for different shapes, and a
/// sample must not depend on how many others are drawn. A last, shorter batch is filled up with
/// samples nobody asked for.
pub const BATCH: usize = 16;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Which samples; sample k's noise is that of (seed, k).
    pub rows: Range<usize>,
    /// The seed of their noise.
    pub seed: u64,
    /// The class of each sample, `null_class` for none; `None` for unconditional networks.
    pub classes: Option<&'a [usize]>,
    /// The class that means none, if the network has one; guidance needs it.
    pub null_class: Option<usize>,
    /// Guidance weight w; 1 is the conditional prediction alone.
    pub guidance: f64,
    /// Shape of a row.
    pub shape: &'a [usize],
    /// Standard normal noise to start from instead of the seed's, one row a sample from 0 on.
    pub init_noise: Option<&'a [f32]>,
}

/// Draws samples; `seen(step, samples)` is shown each state of the first [`BATCH`] samples.
///
/// x̂₀ is clipped at every step as the plan says.
///
/// # Panics
///
/// If the request's slices end before `rows` do, or the network does not fit the shape.
pub fn sample<const D: usize, N: Network<D>>(
    network: &N,
    objective: &Objective,
    plan: &SamplingPlan,
    request: &Request,
    device: &Device,
    mut seen: impl FnMut(usize, Samples),
) -> Samples {
    let _packed = keep_packed_weights();
    let row: usize = request.shape.iter().product();
    let Range { start, end } = request.rows;
    let mut values = Vec::with_capacity(request.rows.len() * row);
    for first in (start..end).step_by(BATCH) {
        let ids: Vec<u64> = (first..first + BATCH).map(|k| k as u64).collect();
        let x = draw(
            network,
            objective,
            plan,
            request,
            &ids,
            device,
            |step, x| {
                if first == start {
                    seen(step, samples(request, x, (end - first).min(BATCH)));
                }
            },
        );
        values.extend(samples(request, x, (end - first).min(BATCH)).values);
    }
    Samples {
        shape: request.shape.to_vec(),
        values,
    }
}

/// One batch from noise to data.
fn draw<const D: usize, N: Network<D>>(
    network: &N,
    objective: &Objective,
    plan: &SamplingPlan,
    request: &Request,
    ids: &[u64],
    device: &Device,
    seen: impl FnMut(usize, Tensor<D>),
) -> Tensor<D> {
    let mut shape = [ids.len(); D];
    shape[1..].copy_from_slice(request.shape);
    let stream = NoiseStream::new(request.seed, "sample");
    let class_of = |&k: &u64| {
        let k = usize::try_from(k).unwrap_or(usize::MAX);
        let classes = request.classes?;
        // What nobody asked for may be of any class.
        Some(classes.get(k).copied().unwrap_or(0))
    };
    let classes: Option<Vec<usize>> = ids.iter().map(class_of).collect();
    let predict = |classes: Option<Vec<usize>>| {
        let class = classes.map(|classes| class_tensor(&classes, device));
        Predictor {
            network: move |x, t| network.predict(x, t, class.clone(), None),
            objective,
        }
    };
    let null = request.null_class.map(|null| vec![null; ids.len()]);
    let conditional = predict(classes);
    let base = predict(null);
    let guided = Guided {
        conditional,
        base,
        weight: request.guidance,
    };
    let std = plan.trajectory.visits()[0].level.prior_std();
    let z = match request.init_noise {
        Some(noise) => given(noise, ids, shape, device),
        None => stream.normal(ids, 0, shape, device),
    };
    let noise = |step| stream.normal(ids, step, shape, device);
    let x = z * std;
    match plan.clip {
        Some(clip) => {
            let clipped = Clipped {
                denoiser: guided,
                clip,
            };
            walk(clipped, plan, x, noise, seen)
        }
        None => walk(guided, plan, x, noise, seen),
    }
}

/// The whole reverse process from `x`; `seen` is shown each state.
fn walk<const D: usize>(
    denoiser: impl Denoiser<D>,
    plan: &SamplingPlan,
    mut x: Tensor<D>,
    noise: impl FnMut(u32) -> Tensor<D>,
    mut seen: impl FnMut(usize, Tensor<D>),
) -> Tensor<D> {
    let reverse = Reverse::new(denoiser, plan.sampler, &plan.trajectory, x.clone(), noise)
        .expect("an objective's levels have finite steps from noise to data");
    for (step, state) in reverse.enumerate() {
        x = state.x;
        seen(step + 1, x.clone());
    }
    x
}

/// The rows of given noise for these samples; samples beyond it are fillers and start at 0.
fn given<const D: usize>(
    noise: &[f32],
    ids: &[u64],
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    let row: usize = shape[1..].iter().product();
    let rows = ids.iter().flat_map(|&k| {
        let k = usize::try_from(k).unwrap_or(usize::MAX);
        let row_values = noise.chunks_exact(row).nth(k);
        row_values.map_or_else(|| vec![0.0; row], <[f32]>::to_vec)
    });
    Tensor::from_data(TensorData::new(rows.collect(), shape), device)
}

/// The first `count` rows of a state, on the host.
fn samples<const D: usize>(request: &Request, x: Tensor<D>, count: usize) -> Samples {
    let row: usize = request.shape.iter().product();
    let mut values: Vec<f32> = x.into_data().iter::<f32>().collect();
    values.truncate(count * row);
    Samples {
        shape: request.shape.to_vec(),
        values,
    }
}
