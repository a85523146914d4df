//! Switches of a thread for the operations that it calls.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::LazyLock;

use burn::tensor::{DType, Device, Tensor};

use crate::cpu::{Isa, Precision};
use crate::device::serves;
use crate::packed::Store;

/// The switches of a thread: see [`enable`], [`autocast`] and [`keep_packed_weights`].
#[derive(Clone, Debug)]
pub struct Switches {
    pub(crate) enabled: bool,
    pub(crate) precision: Precision,
    /// Where packed weights are kept, if they are.
    pub(crate) packed: Option<Rc<Store>>,
}

impl Default for Switches {
    /// The switches of a thread that has not changed them.
    fn default() -> Self {
        static ENABLED: LazyLock<bool> =
            LazyLock::new(|| std::env::var_os("DDPM_KERNELS").is_none_or(|value| value != "off"));
        Self {
            enabled: *ENABLED,
            precision: Precision::default(),
            packed: None,
        }
    }
}

impl Switches {
    /// Whether the kernels are used for this tensor.
    pub(crate) fn cover<const D: usize>(&self, x: &Tensor<D>) -> bool {
        self.enabled && x.dtype() == DType::F32 && serves(&x.device())
    }
}

thread_local! {
    static SWITCHES: RefCell<Switches> = RefCell::default();
}

/// Changes a switch of this thread; returns the value of `change`.
fn change<T>(change: impl FnOnce(&mut Switches) -> T) -> T {
    SWITCHES.with_borrow_mut(change)
}

/// The switches of this thread, taken while an operation runs.
///
/// Until this is dropped, the thread has the default switches: while the operation waits for other
/// threads of rayon, this thread may run another task, which must not see them.
#[must_use = "the switches are put back when it is dropped"]
pub(crate) struct Taken(Switches);

/// Takes this thread's switches for an operation.
pub(crate) fn take() -> Taken {
    Taken(SWITCHES.take())
}

impl Deref for Taken {
    type Target = Switches;
    fn deref(&self) -> &Switches {
        &self.0
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        SWITCHES.set(mem::take(&mut self.0));
    }
}

/// Sets whether the operations called from this thread use the kernels, for comparisons. The default
/// is true, or false if the environment variable `DDPM_KERNELS` is `off`. A gradient is computed in
/// the same way as its operation. For tasks of rayon see [`autocast`].
pub fn enable(kernels: bool) {
    change(|switches| switches.enabled = kernels);
}

/// A guard: until it is dropped, the convolutions called from its thread multiply in another
/// precision. See [`autocast`].
#[derive(Debug)]
#[must_use = "the precision lasts until it is dropped"]
pub struct Autocast {
    /// The precision before.
    outer: Precision,
    /// The guard stays on its thread.
    thread: PhantomData<*const ()>,
}

/// Until the guard is dropped, the convolutions called from this thread multiply in `precision` where
/// there are kernels, and in f32 elsewhere. A gradient is computed in the precision of its operation.
/// Tensors, weights and all other operations stay f32.
///
/// A thread of rayon may run another task while it waits. If it waits inside an operation of this
/// crate, that task does not see the guard; if it waits elsewhere, the task does.
pub fn autocast(precision: Precision) -> Autocast {
    Autocast {
        outer: change(|switches| mem::replace(&mut switches.precision, precision)),
        thread: PhantomData,
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        change(|switches| switches.precision = self.outer);
    }
}

/// A guard: until it is dropped, the convolutions called from its thread pack every weight once. See
/// [`keep_packed_weights`].
#[derive(Debug)]
#[must_use = "the weights are kept until it is dropped"]
pub struct PackedWeights {
    /// The store before.
    outer: Option<Rc<Store>>,
}

/// Until the guard is dropped, the convolutions of this thread pack every weight once instead of once
/// per call: for sampling.
///
/// A weight that only the convolution holds, because it was computed on the spot, is not kept. For
/// tasks of rayon see [`autocast`].
pub fn keep_packed_weights() -> PackedWeights {
    PackedWeights {
        outer: change(|switches| switches.packed.replace(Rc::default())),
    }
}

impl Drop for PackedWeights {
    fn drop(&mut self) {
        let outer = self.outer.take();
        // The old store is dropped after the switch is set.
        let _mine = change(|switches| mem::replace(&mut switches.packed, outer));
    }
}

/// Whether a device computes in a precision at least as fast as in f32. In bf16 this needs kernels for
/// the device, [`enable`]d on this thread, and a processor with AVX512-BF16.
pub fn is_fast(precision: Precision, device: &Device) -> bool {
    let enabled = || SWITCHES.with_borrow(|switches| switches.enabled);
    precision == Precision::F32 || enabled() && serves(device) && Isa::detect() == Isa::Avx512Bf16
}
