//! Packed weights that are kept between calls.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use burn::backend::tensor::FloatTensor;

use crate::cpu::conv::{Algorithm, Conv, Packed, Shape};
use crate::cpu::{Isa, Precision};
use crate::host::Host;

/// The address of a weight's elements, and what it is packed for.
type Key = (*const f32, Shape, Precision);

/// A weight and what it was packed to.
#[derive(Debug)]
struct Entry {
    /// Holding this reference keeps the address from being reused, and writers copy first, so the
    /// pointer is a safe cache key.
    _weight: Box<dyn Any>,
    packed: Rc<Packed>,
}

/// The packed weights that a guard keeps.
#[derive(Debug, Default)]
pub(crate) struct Store(RefCell<HashMap<Key, Entry>>);

/// The weight, packed for the forward pass of `conv`; from the `store` if there is one and another
/// tensor shares the weight's memory.
pub(crate) fn packed<B: Host>(
    conv: &Conv,
    weight: &FloatTensor<B>,
    precision: Precision,
    store: Option<&Store>,
) -> Rc<Packed> {
    let pack = |algorithm| {
        let floats = B::floats(weight);
        Rc::new(conv.pack(Isa::detect(), precision, algorithm, floats))
    };
    let Some(Store(store)) = store.filter(|_| B::is_shared(weight)) else {
        return pack(Algorithm::Fastest);
    };
    let key = (B::floats(weight).as_ptr(), *conv.shape(), precision);
    if let Some(entry) = store.borrow().get(&key) {
        return entry.packed.clone();
    }
    // For any number of images, so that the bits of a sample do not depend on it. The store is not
    // borrowed while rayon works, because it may run another task on this thread.
    let packed = pack(Algorithm::FastestOfOne);
    let entry = Entry {
        _weight: Box::new(weight.clone()),
        packed: packed.clone(),
    };
    store.borrow_mut().insert(key, entry);
    packed
}
