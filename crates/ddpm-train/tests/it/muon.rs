//! Muon by numbers, and which parameters it updates.

use burn::tensor::{Device, Tensor};
use ddpm_model::{MlpConfig, UNetConfig};
use ddpm_train::optim::{
    AdamW, AdamWSettings, Muon, MuonSettings, Optimizer, Parameter, Step, is_hidden,
};
use ddpm_train::params;

type Matrix = Vec<Vec<f64>>;

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let column = |j: usize| b.iter().map(move |row| row[j]);
    let entry = |row: &Vec<f64>, j| row.iter().zip(column(j)).map(|(x, y)| x * y).sum();
    let columns = b[0].len();
    a.iter()
        .map(|row| (0..columns).map(|j| entry(row, j)).collect())
        .collect()
}

fn transpose(a: &Matrix) -> Matrix {
    let columns = 0..a[0].len();
    columns
        .map(|j| a.iter().map(|row| row[j]).collect())
        .collect()
}

/// Σ of matrices times numbers.
fn combine(terms: &[(f64, &Matrix)]) -> Matrix {
    let (rows, columns) = (terms[0].1.len(), terms[0].1[0].len());
    let entry = |i: usize, j: usize| terms.iter().map(|(c, a)| c * a[i][j]).sum();
    (0..rows)
        .map(|i| (0..columns).map(|j| entry(i, j)).collect())
        .collect()
}

/// Five steps of X ← a·X + (b·A + c·A²)·X with A = X·Xᵀ, from G/‖G‖, of a matrix that is no taller than
/// wide; otherwise of its transpose.
fn newton_schulz(g: &Matrix) -> Matrix {
    if g.len() > g[0].len() {
        return transpose(&newton_schulz(&transpose(g)));
    }
    let norm = g.iter().flatten().map(|x| x * x).sum::<f64>().sqrt();
    let mut x = combine(&[(1.0 / norm, g)]);
    for _ in 0..5 {
        let a = product(&x, &transpose(&x));
        let b = combine(&[(-4.775, &a), (2.0315, &product(&a, &a))]);
        x = combine(&[(3.4445, &x), (1.0, &product(&b, &x))]);
    }
    x
}

/// Numbers without a pattern, of order 1.
#[allow(clippy::cast_possible_truncation)]
fn numbers(seed: usize, length: usize) -> Vec<f64> {
    let number = |i: usize| ((seed * 1000 + i) as f64 * 12.9898).sin() * 1.7;
    (0..length).map(|i| f64::from(number(i) as f32)).collect()
}

#[allow(clippy::cast_possible_truncation)]
fn tensor(values: &[f64]) -> Tensor<1> {
    let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    Tensor::from_floats(values.as_slice(), &Device::flex())
}

/// Three steps of a matrix, of a tall one and of a kernel against the formulas in f64, with clipping.
///
/// A step changes entries by about η·0.2·√max(A, B)/√max(A, B) = 0.2·η, where η = 0.1. The five
/// iterations raise relative roundings of 6e-8 to some 1e-5.
#[test]
fn muon_follows_the_papers() {
    let (momentum, weight_decay) = (0.95, 0.1);
    let adamw = AdamWSettings {
        weight_decay,
        ..AdamWSettings::default()
    };
    for shape in [vec![3, 5], vec![6, 4], vec![4, 2, 3, 3]] {
        let mut muon = Muon::new(MuonSettings { momentum, adamw });
        let (rows, length) = (shape[0], shape.iter().product());
        let columns = length / rows;
        let matrix = |values: &[f64]| -> Matrix {
            values.chunks_exact(columns).map(<[f64]>::to_vec).collect()
        };
        let start = numbers(0, length);
        let (mut value, mut w) = (tensor(&start), matrix(&start));
        let mut m = combine(&[(0.0, &w)]);
        for n in 1..=3 {
            let (lr, clip) = (0.1 / n as f64, 0.5);
            let gradient = numbers(n, length);
            let step = Step {
                number: n as u64,
                learning_rate: lr,
                clip,
            };
            let parameter = Parameter {
                name: "hidden.weight",
                shape: &shape,
                value,
            };
            value = muon.step(parameter, tensor(&gradient), &step);
            let g = combine(&[(clip, &matrix(&gradient))]);
            m = combine(&[(momentum, &m), (1.0, &g)]);
            let o = newton_schulz(&combine(&[(momentum, &m), (1.0, &g)]));
            let scale = 0.2 * (rows.max(columns) as f64).sqrt();
            w = combine(&[(1.0 - lr * weight_decay, &w), (-lr * scale, &o)]);
        }
        let found = value.into_data();
        for (found, expected) in found.iter::<f64>().zip(w.iter().flatten()) {
            let off = (found - expected).abs();
            assert!(off < 1e-5, "{shape:?}: {found} is not {expected}");
        }
    }
}

/// What Muon does not choose is AdamW's, to the bit.
#[test]
fn the_others_are_updated_by_adamw() {
    let mut adamw = AdamW::default();
    let mut muon = Muon::new(MuonSettings::default()).choose(|name, _| name == "chosen");
    let step = Step {
        number: 1,
        learning_rate: 0.1,
        clip: 1.0,
    };
    for (name, shape, chosen) in [
        ("bias", vec![6], false),
        ("weight", vec![2, 3], false),
        ("chosen", vec![2, 3], true),
        // A vector is no matrix, whatever is chosen.
        ("chosen", vec![6], false),
    ] {
        let update = |optimizer: &mut dyn Optimizer| {
            let parameter = Parameter {
                name,
                shape: &shape,
                value: tensor(&numbers(0, 6)),
            };
            let value = optimizer.step(parameter, tensor(&numbers(1, 6)), &step);
            value.try_to_vec_as::<f32>().unwrap()
        };
        let same = update(&mut muon.clone()) == update(&mut adamw);
        assert_eq!(same, !chosen, "{name} {shape:?}");
        (adamw, muon) = (AdamW::default(), muon);
    }
}

#[test]
fn muon_takes_the_weights_within_a_network() {
    let device = Device::flex();
    let unet = UNetConfig {
        block_out_channels: vec![8, 8],
        attention: vec![false, true],
        layers_per_block: 1,
        norm_num_groups: 4,
        num_classes: Some(3),
        ..UNetConfig::cifar10()
    };
    let unet = unet.init([1, 1], 0, &device).unwrap();
    let mlp = MlpConfig {
        hidden: 8,
        layers: 1,
    }
    .init([2, 2], 0, &device)
    .unwrap();
    let hidden = |shapes: params::Shapes| -> Vec<String> {
        let shapes = shapes.into_iter();
        let hidden = shapes.filter(|(name, shape)| is_hidden(name, shape));
        hidden.map(|(name, _)| name).collect()
    };
    let all = |shapes: params::Shapes| -> Vec<String> {
        let matrices = shapes.into_iter().filter(|(_, shape)| shape.len() >= 2);
        matrices.map(|(name, _)| name).collect()
    };
    let left_out = |all: Vec<String>, hidden: &[String]| -> Vec<String> {
        let left_out = all.into_iter().filter(|name| !hidden.contains(name));
        left_out.collect()
    };
    let shapes = params::frozen(&unet);
    let chosen = hidden(shapes.clone());
    assert_eq!(
        left_out(all(shapes), &chosen),
        [
            "class_embedding.weight",
            "conv_in.weight",
            "conv_out.weight",
            "time_embedding.linear_1.weight",
            "time_embedding.linear_2.weight",
        ]
    );
    let shapes = params::frozen(&mlp);
    assert_eq!(
        hidden(shapes),
        [
            "blocks.0.linear_1.weight",
            "blocks.0.linear_2.weight",
            "blocks.0.time_emb_proj.weight",
        ]
    );
    for (name, expected) in [
        ("x_embedder.proj.weight", false),
        ("final_layer.linear.weight", false),
        ("proj_out_2.weight", false),
        ("blocks.3.attention.proj_out.weight", true),
        ("time.weight", false),
        ("middle.weight", true),
    ] {
        assert_eq!(is_hidden(name, &[4, 4]), expected, "{name}");
    }
    assert!(!is_hidden("middle.bias", &[4]));
}
