//! Packed weights that are kept from call to call.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use burn::backend::tensor::FloatTensor;

use crate::cpu::conv::{Algorithm, Conv, Packed, Shape};
use crate::cpu::{Isa, Precision};
use crate::host::Host;

/// A weight by the place of its elements, and what it is packed for.
type Key = (*const f32, Shape, Precision);

#[derive(Debug)]
struct Kept {
    /// Holds the elements: while it does, nothing else is put in their place, and whoever changes
    /// the weight changes a copy, in another place.
    _weight: Box<dyn Any>,
    packed: Rc<Packed>,
}

thread_local! {
    static KEPT: RefCell<Option<HashMap<Key, Kept>>> = const { RefCell::new(None) };
}

/// While it lives, the convolutions called from its thread pack every weight once: see
/// [`keep_packed_weights`].
#[derive(Debug)]
#[must_use = "the weights are kept until it is dropped"]
pub struct PackedWeights {
    /// What was kept before, by a guard that still lives.
    outer: Option<HashMap<Key, Kept>>,
}

/// From here until the guard is dropped, the convolutions of this thread pack every weight once
/// instead of at every call: for sampling.
///
/// A weight that only the convolution holds, one computed on the spot, is not kept.
pub fn keep_packed_weights() -> PackedWeights {
    PackedWeights {
        outer: KEPT.replace(Some(HashMap::new())),
    }
}

impl Drop for PackedWeights {
    fn drop(&mut self) {
        KEPT.set(self.outer.take());
    }
}

/// The weight, packed for `conv`'s output.
pub(crate) fn packed<B: Host>(
    conv: &Conv,
    precision: Precision,
    weight: &FloatTensor<B>,
) -> Rc<Packed> {
    let pack = |algorithm| {
        let floats = B::floats(weight);
        Rc::new(conv.pack(Isa::detect(), precision, algorithm, floats))
    };
    KEPT.with_borrow_mut(|kept| match kept {
        Some(kept) if B::is_shared(weight) => {
            let key = (B::floats(weight).as_ptr(), *conv.shape(), precision);
            let entry = kept.entry(key).or_insert_with(|| Kept {
                _weight: Box::new(weight.clone()),
                // However many images there are: a sample's bits do not depend on it.
                packed: pack(Algorithm::FastestOfOne),
            });
            entry.packed.clone()
        }
        _ => pack(Algorithm::Fastest),
    })
}
