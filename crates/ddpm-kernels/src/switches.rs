//! What a thread has switched on or off for the operations that it calls.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::LazyLock;

use burn::tensor::{DType, Tensor};

use crate::cpu::Precision;
use crate::kept::Store;
use crate::serves;

/// The switches of a thread: see [`enable`], [`autocast`] and
/// [`keep_packed_weights`](crate::keep_packed_weights).
#[derive(Clone, Debug)]
pub struct Switches {
    pub(crate) enabled: bool,
    pub(crate) precision: Precision,
    /// Where packed weights are kept, if they are.
    pub(crate) kept: Option<Rc<Store>>,
}

impl Default for Switches {
    /// Those of a thread that has not touched them.
    fn default() -> Self {
        static ENABLED: LazyLock<bool> =
            LazyLock::new(|| std::env::var_os("DDPM_KERNELS").is_none_or(|value| value != "off"));
        Self {
            enabled: *ENABLED,
            precision: Precision::default(),
            kept: None,
        }
    }
}

impl Switches {
    /// Whether the kernels compute with this tensor.
    pub(crate) fn cover<const D: usize>(&self, x: &Tensor<D>) -> bool {
        self.enabled && x.dtype() == DType::F32 && serves(&x.device())
    }
}

thread_local! {
    static SWITCHES: RefCell<Switches> = RefCell::default();
}

/// The switches of this thread.
pub(crate) fn current() -> Switches {
    SWITCHES.with_borrow(Clone::clone)
}

/// Changes a switch of this thread; returns what `change` does.
pub(crate) fn change<T>(change: impl FnOnce(&mut Switches) -> T) -> T {
    SWITCHES.with_borrow_mut(change)
}

/// This thread's switches while an operation runs.
///
/// Until it is dropped, the thread has the switches of a new one: while the operation waits for other
/// threads of rayon's, this thread may run another task, which has switched nothing.
#[must_use = "the switches are put back when it is dropped"]
pub(crate) struct Apart(Switches);

/// Takes this thread's switches for an operation.
pub(crate) fn apart() -> Apart {
    Apart(SWITCHES.take())
}

impl Deref for Apart {
    type Target = Switches;
    fn deref(&self) -> &Switches {
        &self.0
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        SWITCHES.set(mem::take(&mut self.0));
    }
}

/// Whether the operations called from this thread use the kernels where there are any; for
/// comparisons. They do by default, unless the environment says `DDPM_KERNELS=off`. A gradient is
/// computed the way its operation was. Tasks of rayon's are as [`autocast`] says.
pub fn enable(kernels: bool) {
    change(|switches| switches.enabled = kernels);
}

/// While it lives, the convolutions called from its thread multiply in another precision: see
/// [`autocast`].
#[derive(Debug)]
#[must_use = "the precision lasts until it is dropped"]
pub struct Autocast {
    /// That of a guard that still lives.
    outer: Precision,
    /// It is dropped where it was made.
    thread: PhantomData<*const ()>,
}

/// From here until the guard is dropped, the convolutions called from this thread multiply in
/// `precision` where there are kernels, and in f32 elsewhere. A gradient is computed in the
/// precision of its operation. Tensors, weights and all that is no convolution stay f32.
///
/// A thread of rayon's may run another task while it waits. If it waits inside an operation of this
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
