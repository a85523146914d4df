//! Operands that do not match are rejected by name, with the kernels and without.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{DType, Device, Tensor};
use ddpm_kernels::cpu::adamw::AdamW;
use ddpm_kernels::{
    ConvOptions, Images, Norm, NormOptions, Parameter, Terms, adamw, attention, conv, group_norm,
};

use crate::tensors::everywhere;

/// A mismatch: a part of the message, and the function that causes it.
type Mismatch<T> = (&'static str, fn(&mut T));

/// Runs the operation without a mismatch and with each of them.
fn rejects<T>(place: &str, make: impl Fn() -> T, run: impl Fn(T), mismatches: &[Mismatch<T>]) {
    run(make());
    for (name, mismatch) in mismatches {
        let mut operands = make();
        mismatch(&mut operands);
        let panic = catch_unwind(AssertUnwindSafe(|| run(operands)))
            .expect_err(&format!("{place}: {name} was accepted"));
        let message = panic.downcast_ref::<String>().expect("a message");
        assert!(message.contains(name), "{place}: {name}: {message}");
    }
}

/// Converts the numbers to f64.
fn wide<const D: usize>(tensor: &mut Tensor<D>) {
    *tensor = tensor.clone().cast(DType::F64);
}

/// Reverses the shape.
fn reversed<const D: usize>(tensor: &mut Tensor<D>) {
    let mut shape = tensor.dims();
    shape.reverse();
    *tensor = tensor.clone().reshape(shape);
}

fn ones<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::ones(shape, device)
}

/// Three images of 4 by 5 pixels, with 6 channels and 2 more in a second tensor.
fn images(device: &Device) -> Images {
    Images {
        x: ones([3, 4, 5, 6], device),
        skip: Some(ones([3, 4, 5, 2], device)),
    }
}

fn norm(device: &Device) -> Norm {
    Norm {
        weight: ones([8], device),
        bias: ones([8], device),
        scale_shift: Some(ones([3, 16], device)),
        mask: Some(ones([3, 4, 5, 8], device)),
        options: NormOptions {
            groups: 4,
            eps: 1e-5,
            silu: true,
        },
    }
}

#[test]
fn operands_of_a_convolution() {
    struct Operands(Images, Tensor<4>, Terms);
    let mismatches: [Mismatch<Operands>; 11] = [
        (
            "skip is [2, 5, 4, 3] of F32 instead of [3, 4, 5, 3] of F32",
            |o| {
                reversed(o.0.skip.as_mut().unwrap());
            },
        ),
        ("skip is [3, 4, 5, 2] of F64", |o| {
            wide(o.0.skip.as_mut().unwrap());
        }),
        (
            "the weight is [9, 7, 3, 3] of F32 instead of [9, 8, 3, 3] of F32",
            |o| {
                o.1 = ones([9, 7, 3, 3], &o.1.device());
            },
        ),
        (
            "the weight is [9, 8, 3, 3] of F64 instead of [9, 8, 3, 3] of F32",
            |o| wide(&mut o.1),
        ),
        ("the bias is [1] of F32 instead of [9] of F32", |o| {
            o.2.bias = Some(ones([1], &o.1.device()));
        }),
        ("the bias is [9] of F64", |o| {
            wide(o.2.bias.as_mut().unwrap());
        }),
        ("the shift is [9, 3] of F32 instead of [3, 9] of F32", |o| {
            reversed(o.2.shift.as_mut().unwrap());
        }),
        ("the shift is [3, 9] of F64", |o| {
            wide(o.2.shift.as_mut().unwrap());
        }),
        (
            "the residual is [9, 5, 4, 3] of F32 instead of [3, 4, 5, 9] of F32",
            |o| {
                reversed(o.2.residual.as_mut().unwrap());
            },
        ),
        ("the residual is [3, 4, 5, 9] of F64", |o| {
            wide(o.2.residual.as_mut().unwrap());
        }),
        ("the kernel has more rows than the padded input", |o| {
            o.1 = ones([9, 8, 7, 3], &o.1.device());
        }),
    ];
    everywhere(|device, place| {
        let make = || {
            let terms = Terms {
                bias: Some(ones([9], device)),
                shift: Some(ones([3, 9], device)),
                residual: Some(ones([3, 4, 5, 9], device)),
            };
            Operands(images(device), ones([9, 8, 3, 3], device), terms)
        };
        let run = |Operands(images, weight, terms)| {
            conv(images, weight, terms, ConvOptions::same(3));
        };
        rejects(place, make, run, &mismatches);
    });
}

#[test]
fn operands_of_a_norm() {
    type Operands = (Images, Norm);
    let mismatches: [Mismatch<Operands>; 10] = [
        ("skip is", |(images, _)| {
            reversed(images.skip.as_mut().unwrap());
        }),
        (
            "the norm's weight is [1] of F32 instead of [8] of F32",
            |(_, norm)| {
                norm.weight = ones([1], &norm.weight.device());
            },
        ),
        ("the norm's weight is [8] of F64", |(_, norm)| {
            wide(&mut norm.weight);
        }),
        ("the norm's bias is [4]", |(_, norm)| {
            norm.bias = ones([4], &norm.bias.device());
        }),
        ("the norm's bias is [8] of F64", |(_, norm)| {
            wide(&mut norm.bias);
        }),
        (
            "scale_shift is [16, 3] of F32 instead of [3, 16] of F32",
            |(_, norm)| {
                reversed(norm.scale_shift.as_mut().unwrap());
            },
        ),
        ("scale_shift is [3, 16] of F64", |(_, norm)| {
            wide(norm.scale_shift.as_mut().unwrap());
        }),
        (
            "the mask is [8, 5, 4, 3] of F32 instead of [3, 4, 5, 8] of F32",
            |(_, norm)| {
                reversed(norm.mask.as_mut().unwrap());
            },
        ),
        ("the mask is [3, 4, 5, 8] of F64", |(_, norm)| {
            wide(norm.mask.as_mut().unwrap());
        }),
        ("3 groups do not divide 8 channels", |(_, norm)| {
            norm.options.groups = 3;
        }),
    ];
    everywhere(|device, place| {
        let make = || (images(device), norm(device));
        let alone = |(images, norm)| {
            group_norm(images, norm);
        };
        rejects(place, make, alone, &mismatches);
        let read = |(images, norm): Operands| {
            let weight = ones([2, 8, 1, 1], device);
            let options = ConvOptions::same(1);
            conv(images.normed(norm), weight, Terms::default(), options);
        };
        rejects(place, make, read, &mismatches);
    });
}

#[test]
fn operands_of_attention() {
    type Operands = ([Tensor<3>; 3], usize);
    let mismatches: [Mismatch<Operands>; 5] = [
        ("k is [6, 4, 2] of F32 instead of [2, 4, 6] of F32", |o| {
            reversed(&mut o.0[1]);
        }),
        ("k is [2, 4, 6] of F64", |o| wide(&mut o.0[1])),
        ("v is [6, 4, 2] of F32 instead of [2, 4, 6] of F32", |o| {
            reversed(&mut o.0[2]);
        }),
        ("v is [2, 4, 6] of F64", |o| wide(&mut o.0[2])),
        ("6 channels do not divide into 4 heads", |o| o.1 = 4),
    ];
    everywhere(|device, place| {
        let make = || ([(); 3].map(|()| ones([2, 4, 6], device)), 2);
        let run = |([q, k, v], heads): Operands| {
            attention(q, k, v, heads);
        };
        rejects(place, make, run, &mismatches);
    });
}

#[test]
fn operands_of_adamw() {
    type Operands = (Parameter, Tensor<1>);
    let mismatches: [Mismatch<Operands>; 6] = [
        (
            "the gradient is [1] of F32 instead of [7] of F32",
            |(_, gradient)| {
                *gradient = ones([1], &gradient.device());
            },
        ),
        ("the gradient is [7] of F64", |(_, gradient)| wide(gradient)),
        ("the mean of the gradients is [7] of F64", |(p, _)| {
            wide(&mut p.exp_avg);
        }),
        ("the mean of their squares is [7] of F64", |(p, _)| {
            wide(&mut p.exp_avg_sq);
        }),
        ("the moving average is [7] of F64", |(p, _)| {
            wide(&mut p.ema);
        }),
        ("the moving average is [8] of F32", |(p, _)| {
            p.ema = ones([8], &p.ema.device());
        }),
    ];
    let step = AdamW {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        step: 1,
        ema_decay: 0.9,
        clip: 1.0,
    };
    everywhere(|device, place| {
        let device = &device.clone().without_autodiff();
        let make = || {
            let [value, exp_avg, exp_avg_sq, ema] = [(); 4].map(|()| ones([7], device));
            let parameter = Parameter {
                value,
                exp_avg,
                exp_avg_sq,
                ema,
            };
            (parameter, ones([7], device))
        };
        let run = |(parameter, gradient)| {
            adamw(parameter, gradient, &step);
        };
        rejects(place, make, run, &mismatches);
    });
}
