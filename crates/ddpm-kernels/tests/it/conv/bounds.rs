//! What a convolution refuses, and what it does at the bounds of what it takes.

use ddpm_kernels::cpu::conv::{Algorithm, Conv, Epilogue, Shape, ShapeError};
use ddpm_kernels::cpu::{Isa, Precision};

use super::{Case, plain};

#[test]
fn shapes_that_are_none_do_not_construct() {
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

/// 274177·67280421310721 = 2⁶⁴ + 1, so that an image of one float would pass for such a one.
#[test]
fn sizes_that_wrap_do_not_construct() {
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

/// A stride of any size leaves one output, an upsampling larger than the stride as many as there are;
/// both gradients are written whole.
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

/// Two convolutions with as many weights, of which one has twice the output channels: its pack has
/// blocks of channels that are another pixel's in the other's output.
fn of_as_many_weights() -> [Conv; 2] {
    [plain([4, 4], 32, 16, 3), plain([4, 4], 16, 32, 3)].map(|shape| Conv::new(shape).unwrap())
}

#[test]
#[should_panic = "the weights were packed for another convolution"]
fn a_pack_of_another_shape_is_refused() {
    let [conv, other] = of_as_many_weights();
    let weights = vec![1.0; 32 * 16 * 9];
    let pack = other.pack(Isa::detect(), Precision::F32, Algorithm::Direct, &weights);
    let (x, mut y) = (vec![1.0; 16 * 32], vec![0.0; 16 * 16]);
    conv.forward(&pack, [&x, &[]], Epilogue::default(), &mut y);
}

#[test]
#[should_panic = "the weights were packed for another convolution"]
fn a_transposed_pack_of_another_shape_is_refused() {
    let [conv, other] = of_as_many_weights();
    let weights = vec![1.0; 32 * 16 * 9];
    let pack = other.pack_transpose(Isa::detect(), Precision::F32, Algorithm::Direct, &weights);
    let (dy, mut dx) = (vec![1.0; 16 * 16], vec![0.0; 16 * 32]);
    conv.input_gradient(&pack, &dy, [Some(&mut dx), None]);
}

/// Whichever instruction set is asked for: what the processor lacks is computed by plain Rust.
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
