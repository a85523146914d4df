//! Invalid arguments of a convolution, and extreme valid ones.

use ddpm_kernels::cpu::conv::{Algorithm, Conv, Epilogue, Shape, ShapeError};
use ddpm_kernels::cpu::{Isa, Precision};

use super::{Case, plain};

#[test]
fn invalid_shapes_are_errors() {
    let shape = plain([4, 4], 3, 5, 3);
    let refused = |shape| Conv::new(shape).unwrap_err();
    assert_eq!(
        refused(Shape { stride: 0, ..shape }),
        ShapeError::Zero("stride")
    );
    let large = Shape {
        kernel: [3, 7],
        ..shape
    };
    assert_eq!(refused(large), ShapeError::KernelTooLarge(1));
    assert_eq!(
        ShapeError::KernelTooLarge(1).to_string(),
        "the kernel has more columns than the padded input"
    );
}

/// 274177·67280421310721 = 2⁶⁴ + 1: with wrapping arithmetic, an image of one float would match.
#[test]
fn sizes_that_overflow_are_errors() {
    let pixel = plain([1, 1], 1, 1, 1);
    let half = usize::MAX / 2;
    for (name, shape) in [
        (
            "padded input",
            Shape {
                size: [274_177, 67_280_421_310_721],
                ..pixel
            },
        ),
        (
            "padded input",
            Shape {
                padding: [[half, half + 2], [0, 0]],
                ..pixel
            },
        ),
        (
            "padded input",
            Shape {
                size: [2, 1],
                upsample: half + 1,
                ..pixel
            },
        ),
        (
            "padded input",
            Shape {
                in_channels: [usize::MAX, 2],
                ..pixel
            },
        ),
        (
            "weights",
            Shape {
                out_channels: usize::MAX,
                ..pixel
            },
        ),
        (
            "output",
            Shape {
                size: [1 << 30, 1 << 30],
                out_channels: 8,
                ..pixel
            },
        ),
    ] {
        let error = Conv::new(shape).unwrap_err();
        assert_eq!(error, ShapeError::TooLarge(name), "{shape:?}");
        assert_eq!(
            error.to_string(),
            format!("memory cannot hold a convolution's {name}")
        );
    }
}

/// A stride beyond the image leaves one output, and an upsampling factor may be larger than the stride.
/// Both gradients are written completely.
#[test]
fn strides_and_upsampling_beyond_the_image_match_the_definition() {
    let pixel = plain([1, 1], 2, 3, 3);
    for shape in [
        Shape {
            stride: usize::MAX,
            ..plain([5, 4], 3, 17, 3)
        },
        Shape {
            stride: 5,
            upsample: 7,
            ..pixel
        },
        Shape {
            stride: 9,
            upsample: 8,
            ..plain([2, 1], 3, 2, 3)
        },
    ] {
        for isa in Isa::available() {
            Case::new(shape, 2, 3).check(isa);
        }
    }
}

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::Fastest,
    Algorithm::FastestOfOne,
    Algorithm::Direct,
    Algorithm::Winograd2,
    Algorithm::Winograd4,
];

#[test]
fn an_empty_batch_gives_empty_results() {
    for shape in [plain([4, 4], 3, 5, 3), plain([4, 4], 32, 32, 3)] {
        let case = Case::new(shape, 0, 0);
        for (precision, algorithm) in [Precision::F32, Precision::Bf16]
            .into_iter()
            .flat_map(|precision| ALGORITHMS.map(|algorithm| (precision, algorithm)))
        {
            let results = case.run_in(precision, Isa::detect(), algorithm);
            assert!(results.y.is_empty() && results.dx.iter().all(Vec::is_empty));
            assert!(results.dw.iter().all(|&dw| dw == 0.0));
        }
    }
}

/// Two convolutions with the same number of weights. One has twice the output channels: its packed
/// weights have blocks of channels that would belong to another pixel in the other's output.
fn pair_with_equal_weight_counts() -> [Conv; 2] {
    [plain([4, 4], 32, 16, 3), plain([4, 4], 16, 32, 3)].map(|shape| Conv::new(shape).unwrap())
}

#[test]
#[should_panic = "the weights were packed for another convolution"]
fn weights_packed_for_another_shape_panic() {
    let [conv, other] = pair_with_equal_weight_counts();
    let weights = vec![1.0; 32 * 16 * 9];
    let pack = other.pack(Isa::detect(), Precision::F32, Algorithm::Direct, &weights);
    let (x, mut y) = (vec![1.0; 16 * 32], vec![0.0; 16 * 16]);
    conv.forward(&pack, [&x, &[]], Epilogue::default(), &mut y);
}

#[test]
#[should_panic = "the weights were packed for another convolution"]
fn transposed_weights_packed_for_another_shape_panic() {
    let [conv, other] = pair_with_equal_weight_counts();
    let weights = vec![1.0; 32 * 16 * 9];
    let pack = other.pack_transpose(Isa::detect(), Precision::F32, Algorithm::Direct, &weights);
    let (dy, mut dx) = (vec![1.0; 16 * 16], vec![0.0; 16 * 32]);
    conv.input_gradient(&pack, &dy, [Some(&mut dx), None]);
}

/// Plain Rust takes the place of an instruction set that the processor lacks.
#[test]
fn a_missing_instruction_set_is_plain_rust() {
    let case = Case::new(plain([5, 3], 4, 6, 3), 2, 1);
    for isa in [
        Isa::Avx512Bf16,
        Isa::Avx512,
        Isa::Avx2,
        Isa::Neon,
        Isa::Portable,
    ] {
        case.check(isa);
        if !Isa::available().contains(&isa) {
            for precision in [Precision::F32, Precision::Bf16] {
                let run = |isa| case.run_in(precision, isa, Algorithm::Direct);
                assert!(run(isa) == run(Isa::Portable), "{isa:?} {precision:?}");
            }
        }
    }
}
