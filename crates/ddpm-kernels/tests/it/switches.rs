//! A thread's switches are those of the task that set them, even if rayon runs other tasks on that
//! thread.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_kernels::cpu::Precision;
use ddpm_kernels::{ConvOptions, Terms, autocast, conv, enable, keep_packed_weights};
use rayon::prelude::*;

use crate::reference::Data;

/// Large enough that several threads work on one convolution.
const SHAPE: [usize; 4] = [2, 9, 9, 64];
/// Enough tasks: without the protection, one task in ten would see another's switches.
const TASKS: usize = 300;

fn tensor<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<D> {
    let values = Data::new(seed).values(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// The bits of a convolution of 64 channels, with the thread's switches.
fn bits(x: &Tensor<4>, weight: &Tensor<4>) -> Vec<u32> {
    let same = ConvOptions::same(3);
    let y = conv(x.clone(), weight.clone(), Terms::default(), same);
    let values = y.into_data().try_into_vec::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn on_two_threads(tasks: impl FnOnce() + Send) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    pool.unwrap().install(tasks);
}

/// Every other task multiplies in bf16. A thread that waits for the other thread's part of a
/// convolution runs the next task, which did not ask for bf16.
#[test]
fn a_task_keeps_its_precision() {
    let (x, weight) = (tensor(1, SHAPE), tensor(2, [64, 64, 3, 3]));
    let run = |task: usize| {
        let _precision = (!task.is_multiple_of(2)).then(|| autocast(Precision::Bf16));
        bits(&x, &weight)
    };
    let expected = [run(0), run(1)];
    assert!(expected[0] != expected[1]);
    on_two_threads(|| {
        (0..TASKS).into_par_iter().with_max_len(1).for_each(|task| {
            assert!(run(task) == expected[task % 2], "task {task}");
        });
    });
}

/// Every other task turns the kernels off, and on again at its end.
#[test]
fn a_task_keeps_its_kernels() {
    let (x, weight) = (tensor(1, SHAPE), tensor(2, [64, 64, 3, 3]));
    let run = |task: usize| {
        enable(!task.is_multiple_of(2));
        let bits = bits(&x, &weight);
        enable(true);
        bits
    };
    let expected = [run(0), run(1)];
    assert!(expected[0] != expected[1]);
    on_two_threads(|| {
        (0..TASKS).into_par_iter().with_max_len(1).for_each(|task| {
            assert!(run(task) == expected[task % 2], "task {task}");
        });
    });
}

/// A thread that packs a weight waits for the other thread's part and runs the next task, which packs
/// as well.
#[test]
fn tasks_pack_their_weights_on_one_thread() {
    let x = tensor(1, SHAPE);
    let weights: Vec<Tensor<4>> = (0..TASKS as u64)
        .map(|seed| tensor(seed, [64, 64, 3, 3]))
        .collect();
    let run = |weight: &Tensor<4>| {
        let _packed = keep_packed_weights();
        // The second call uses the kept weight.
        [bits(&x, weight), bits(&x, weight)]
    };
    let expected: Vec<_> = weights.iter().map(run).collect();
    on_two_threads(|| {
        let tasks = weights.par_iter().zip(&expected).with_max_len(1);
        tasks.for_each(|(weight, expected)| assert!(run(weight) == *expected));
    });
}

#[test]
fn guards_restore_the_switches() {
    let (x, weight) = (tensor(1, SHAPE), tensor(2, [64, 64, 3, 3]));
    let plain = bits(&x, &weight);
    let bf16 = {
        let _precision = autocast(Precision::Bf16);
        let bf16 = bits(&x, &weight);
        let inner = autocast(Precision::F32);
        assert!(bits(&x, &weight) == plain);
        drop(inner);
        assert!(bits(&x, &weight) == bf16);
        bf16
    };
    assert!(bf16 != plain && bits(&x, &weight) == plain);
}
