//! From a backend's name to a Burn device: the one place that knows which backends are compiled.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

/// The backends this program can be built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Burn's CPU backend, the default.
    Flex,
    /// The older CPU backend, kept as a second opinion in tests.
    NdArray,
    /// NVIDIA GPUs.
    Cuda,
    /// Any GPU with a Vulkan driver.
    Vulkan,
}

/// Why a backend cannot be used here.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DeviceError {
    /// No backend has this name.
    #[error("unknown backend {0:?}; known are {known}", known = names(&Backend::ALL))]
    Unknown(String),
    /// The backend exists, but not in this build.
    #[error(
        "backend {0} is not in this build (cargo feature `{0}`); it has {works}",
        works = names(&Backend::working())
    )]
    NotCompiled(Backend),
    /// The backend was built in, but the machine lacks a device for it.
    #[error(
        "no {0} device found on this machine; these backends would work: {works}",
        works = names(&Backend::working())
    )]
    NoDevice(Backend),
    /// The device is none that computes in bf16.
    #[error(
        "precision: bf16 needs a processor with AVX512-BF16, the backend flex or ndarray, and kernels \
         (no DDPM_KERNELS=off); f32 works"
    )]
    NoBf16,
    /// The backend has devices, but not this one.
    #[error("no {backend} device {index} on this machine, which has {count}, counted from 0")]
    NoSuch {
        /// The backend.
        backend: Backend,
        /// The device asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
}

impl Backend {
    /// Every backend, the default first.
    pub const ALL: [Self; 4] = [Self::Flex, Self::NdArray, Self::Cuda, Self::Vulkan];

    /// The name used on the command line and as the cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::NdArray => "ndarray",
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
        }
    }

    /// Whether this build contains the backend.
    pub fn is_compiled(self) -> bool {
        match self {
            Self::Flex => cfg!(feature = "flex"),
            Self::NdArray => cfg!(feature = "ndarray"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Vulkan => cfg!(feature = "vulkan"),
        }
    }

    /// The backends that can be used in this build on this machine.
    pub fn working() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|b| b.device().is_ok())
            .collect()
    }

    /// The backend's first device, without autodiff.
    ///
    /// # Errors
    ///
    /// As [`device_at`](Self::device_at).
    pub fn device(self) -> Result<Device, DeviceError> {
        self.device_at(0)
    }

    /// The device of one of several processes on this machine, numbered from 0: the backend's
    /// devices in turn, without autodiff.
    ///
    /// # Errors
    ///
    /// As [`devices`](Self::devices).
    pub fn device_at(self, process: usize) -> Result<Device, DeviceError> {
        let mut devices = self.devices()?;
        Ok(devices.swap_remove(process % devices.len()))
    }

    /// The backend's devices with these numbers, without autodiff. A CPU is one device, number 0.
    ///
    /// # Errors
    ///
    /// As [`devices`](Self::devices), and if one of the numbers is no device's.
    pub fn devices_at(self, indices: &[usize]) -> Result<Vec<Device>, DeviceError> {
        let devices = self.devices()?;
        let count = devices.len();
        let find = |&index: &usize| {
            let device = devices.get(index).cloned();
            device.ok_or(DeviceError::NoSuch {
                backend: self,
                index,
                count,
            })
        };
        indices.iter().map(find).collect()
    }

    fn has(self, device: &Device) -> bool {
        self.devices().is_ok_and(|devices| devices.contains(device))
    }

    /// The backend's devices, without autodiff: one at least.
    ///
    /// # Errors
    ///
    /// If the backend is not compiled in, or the machine has no device for it. A GPU is looked
    /// for before it is used, so a machine without one gives an error, not a panic.
    pub fn devices(self) -> Result<Vec<Device>, DeviceError> {
        let devices = match self {
            #[cfg(feature = "flex")]
            Self::Flex => Some(vec![Device::flex()]),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)] // Kept until Burn removes it: see docs/design.md.
            Self::NdArray => Some(vec![Device::ndarray()]),
            #[cfg(feature = "cuda")]
            Self::Cuda => Some(enumerate(burn::tensor::DeviceType::Cuda)),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Some(enumerate(burn::tensor::DeviceType::Vulkan)),
            #[allow(unreachable_patterns)] // Every backend may be compiled in.
            _ => None,
        };
        let devices: Vec<Device> = devices.ok_or(DeviceError::NotCompiled(self))?;
        if devices.is_empty() {
            return Err(DeviceError::NoDevice(self));
        }
        Ok(devices)
    }
}

/// Whether a device computes in the machine's own memory.
pub fn is_host(device: &Device) -> bool {
    [Backend::Flex, Backend::NdArray]
        .iter()
        .any(|backend| backend.has(device))
}

/// Whether Burn can have a device sum with others of its kind.
pub(crate) fn has_collectives(device: &Device) -> bool {
    Backend::Cuda.has(device)
}

#[cfg(any(feature = "cuda", feature = "vulkan"))]
fn enumerate(kind: burn::tensor::DeviceType) -> Vec<Device> {
    // A broken driver can panic while it is enumerated; that is a machine without a device.
    let devices = std::panic::catch_unwind(|| Device::enumerate(kind));
    devices.map_or_else(|_| Vec::new(), burn::tensor::Devices::into_vec)
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        Self::ALL
            .into_iter()
            .find(|b| b.name() == name)
            .ok_or_else(|| DeviceError::Unknown(name.to_owned()))
    }
}

fn names(backends: &[Backend]) -> String {
    let names: Vec<_> = backends.iter().map(|b| b.name()).collect();
    names.join(", ")
}
