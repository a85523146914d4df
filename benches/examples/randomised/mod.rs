//! Random weights for comparing two networks.

use ddpm_model::UNet;
use ddpm_process::NoiseStream;
use ddpm_train::params;

/// Adds a normal draw times `width` to every parameter. Without it the last layers are zero, and
/// any two networks would agree.
pub(crate) fn randomised(model: UNet, width: f64) -> UNet {
    let stream = NoiseStream::new(0, "weights");
    let mut parameter = 0;
    params::update(model, |_, value| {
        parameter += 1;
        let noise = stream.normal(&[parameter], 0, [1, value.dims()[0]], &value.device());
        value + noise.squeeze_dim::<1>(0) * width
    })
}
