//! The devices that have kernels.

use burn::tensor::Device;

/// Whether this build has kernels for a device, with autodiff or without.
pub fn serves(device: &Device) -> bool {
    match device.clone().without_autodiff().as_dispatch() {
        #[cfg(feature = "flex")]
        burn::backend::DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        burn::backend::DispatchDevice::NdArray(_) => true,
        #[allow(unreachable_patterns, reason = "the two may be all there are")]
        _ => false,
    }
}
