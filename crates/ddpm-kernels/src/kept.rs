//! Packed weights that are kept from call to call.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use burn::backend::tensor::FloatTensor;

use crate::cpu::conv::{Algorithm, Conv, Packed, Shape};
use crate::cpu::{Isa, Precision};
use crate::host::Host;
use crate::switches::{self, Switches};

/// A weight by the place of its elements, and what it is packed for.
type Key = (*const f32, Shape, Precision);

#[derive(Debug)]
struct Kept {
    /// Holds the elements: while it does, nothing else is put in their place, and whoever changes
    /// the weight changes a copy, in another place.
    _weight: Box<dyn Any>,
    packed: Rc<Packed>,
}

/// The weights that a guard keeps.
#[derive(Debug, Default)]
pub(crate) struct Store(RefCell<HashMap<Key, Kept>>);

/// While it lives, the convolutions called from its thread pack every weight once: see
/// [`keep_packed_weights`].
#[derive(Debug)]
#[must_use = "the weights are kept until it is dropped"]
pub struct PackedWeights {
    /// What was kept before, by a guard that still lives.
    outer: Option<Rc<Store>>,
}

/// From here until the guard is dropped, the convolutions of this thread pack every weight once
/// instead of at every call: for sampling.
///
/// A weight that only the convolution holds, one computed on the spot, is not kept. A task that
/// rayon runs on this thread in between is as [`autocast`](crate::autocast) says.
pub fn keep_packed_weights() -> PackedWeights {
    PackedWeights {
        outer: switches::change(|switches| switches.kept.replace(Rc::default())),
    }
}

impl Drop for PackedWeights {
    fn drop(&mut self) {
        let outer = self.outer.take();
        // Dropped after the switch is set.
        let _mine = switches::change(|switches| std::mem::replace(&mut switches.kept, outer));
    }
}

/// The weight, packed for `conv`'s output.
pub(crate) fn packed<B: Host>(
    conv: &Conv,
    weight: &FloatTensor<B>,
    switches: &Switches,
) -> Rc<Packed> {
    let precision = switches.precision;
    let pack = |algorithm| {
        let floats = B::floats(weight);
        Rc::new(conv.pack(Isa::detect(), precision, algorithm, floats))
    };
    let Some(Store(store)) = switches.kept.as_deref().filter(|_| B::is_shared(weight)) else {
        return pack(Algorithm::Fastest);
    };
    let key = (B::floats(weight).as_ptr(), *conv.shape(), precision);
    if let Some(kept) = store.borrow().get(&key) {
        return kept.packed.clone();
    }
    // However many images there are: a sample's bits do not depend on it. Nothing is borrowed while
    // rayon works, for it may run another task on this thread.
    let packed = pack(Algorithm::FastestOfOne);
    let kept = Kept {
        _weight: Box::new(weight.clone()),
        packed: packed.clone(),
    };
    store.borrow_mut().insert(key, kept);
    packed
}
