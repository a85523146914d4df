//! Weights with which two networks can be compared.

use ddpm_model::UNet;
use ddpm_process::NoiseStream;
use ddpm_train::params;

/// Every parameter moved by a normal draw times `width`: a network whose last layers are zero, as
/// they are at first, would agree with any other.
pub(crate) fn randomised(model: UNet, width: f64) -> UNet {
    let stream = NoiseStream::new(0, "weights");
    let mut parameter = 0;
    params::update(model, |_, value| {
        parameter += 1;
        let noise = stream.normal(&[parameter], 0, [1, value.dims()[0]], &value.device());
        value + noise.squeeze_dim::<1>(0) * width
    })
}
