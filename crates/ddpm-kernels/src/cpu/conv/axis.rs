//! A convolution along one axis, as a set of phases with their taps.
//!
//! Along an axis, a convolution of stride s over an input repeated f times (nearest upsampling)
//! reads the input ⌊(s·p + t − padding) / f⌋ for output p and kernel element t. With p = f·m + a
//! this is s·m + ⌊(s·a + t − padding) / f⌋. Every phase a has a few *taps*, each a constant offset
//! from s·m; kernel elements with the same offset share a tap, whose weight is their sum. The
//! transposed map (the input gradient) has the same form, with s phases and step f. One loop
//! therefore computes padding, stride, upsampling and all their gradients.

use std::ops::Range;

/// A constant offset into the source, and the kernel elements that read there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tap {
    /// Output phases·m + a reads source step·m + offset, or zero outside the source.
    pub(crate) offset: isize,
    /// The kernel elements, whose weights are added.
    pub(crate) kernel: Vec<usize>,
}

/// One axis of a convolution or of its transpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    pub(crate) source: usize,
    pub(crate) output: usize,
    pub(crate) step: usize,
    /// The taps of each phase.
    pub(crate) phases: Vec<Vec<Tap>>,
}

impl Axis {
    /// The axis of a convolution, or `None` if the kernel is longer than the padded input.
    ///
    /// A stride that leaves the input at its first step is shortened to the smallest such stride, and
    /// phases after the last output are left out, so that the padded input bounds every number here.
    pub(crate) fn new(
        source: usize,
        kernel: usize,
        stride: usize,
        padding: [usize; 2],
        upsample: usize,
    ) -> Option<Self> {
        let padded = source * upsample + padding[0] + padding[1];
        let last = padded.checked_sub(kernel)?;
        let stride = stride.min(last + 1);
        let output = last / stride + 1;
        let phases = (0..upsample.min(output))
            .map(|a| {
                let mut taps: Vec<Tap> = Vec::new();
                for t in 0..kernel {
                    let shifted = (stride * a + t).cast_signed() - padding[0].cast_signed();
                    let offset = shifted.div_euclid(upsample.cast_signed());
                    match taps.last_mut() {
                        Some(last) if last.offset == offset => last.kernel.push(t),
                        _ => taps.push(Tap {
                            offset,
                            kernel: vec![t],
                        }),
                    }
                }
                taps
            })
            .collect();
        Some(Self {
            source,
            output,
            step: stride,
            phases,
        })
    }

    /// The transposed map: from output gradient to input gradient.
    pub(crate) fn transpose(&self) -> Self {
        let (step, phases) = (self.step.cast_signed(), self.phases.len().cast_signed());
        let transposed = (0..step)
            .map(|c| {
                let mut taps: Vec<Tap> = Vec::new();
                for (a, phase) in (0..).zip(&self.phases) {
                    for tap in phase {
                        // Source step·n + c is read by output phases·m + a where
                        // step·m + offset = step·n + c.
                        if (c - tap.offset).rem_euclid(step) == 0 {
                            taps.push(Tap {
                                offset: phases * (c - tap.offset).div_euclid(step) + a,
                                kernel: tap.kernel.clone(),
                            });
                        }
                    }
                }
                taps.sort();
                taps
            })
            .collect();
        Self {
            source: self.output,
            output: self.source,
            step: self.phases.len(),
            phases: transposed,
        }
    }

    /// The number of outputs of phase `a`.
    pub(crate) fn count(&self, a: usize) -> usize {
        (self.output + self.phases.len() - 1 - a) / self.phases.len()
    }

    /// The range of m below `count` for which step·m + offset lies inside the source.
    pub(crate) fn inside(&self, offset: isize, count: usize) -> Range<usize> {
        let step = self.step.cast_signed();
        let first = (-offset + step - 1).div_euclid(step).max(0);
        let end = (self.source.cast_signed() - 1 - offset).div_euclid(step) + 1;
        let end = end.clamp(0, count.cast_signed());
        first.min(end).cast_unsigned()..end.cast_unsigned()
    }
}

/// The taps of a phase of both axes, row by row.
pub(crate) fn taps<'a>(rows: &'a [Tap], cols: &'a [Tap]) -> impl Iterator<Item = [&'a Tap; 2]> {
    rows.iter()
        .flat_map(|row| cols.iter().map(move |col| [row, col]))
}

/// The kernel elements (row, column) of a tap of both axes.
pub(crate) fn elements([row, col]: [&Tap; 2]) -> impl Iterator<Item = (usize, usize)> {
    (row.kernel.iter()).flat_map(move |&row| col.kernel.iter().map(move |&col| (row, col)))
}

/// All phases of both axes with their taps.
pub(crate) fn phases(axes: &[Axis; 2]) -> impl Iterator<Item = ([usize; 2], [&[Tap]; 2])> {
    axes[0].phases.iter().enumerate().flat_map(|(a, rows)| {
        let cols = axes[1].phases.iter().enumerate();
        cols.map(move |(b, cols)| ([a, b], [&rows[..], &cols[..]]))
    })
}

#[cfg(test)]
mod tests {
    use super::Axis;

    fn axes() -> impl Iterator<Item = Axis> {
        (1..6)
            .flat_map(|source| [1, 3, 5].map(|kernel| (source, kernel)))
            .flat_map(|(source, kernel)| [1, 2, 3, 9].map(|stride| (source, kernel, stride)))
            .flat_map(|(source, kernel, stride)| {
                [[0, 0], [0, 1], [1, 1], [2, 3]].map(|padding| (source, kernel, stride, padding))
            })
            .flat_map(|(source, kernel, stride, padding)| {
                [1, 2, 3, 8].map(|f| Axis::new(source, kernel, stride, padding, f))
            })
            .flatten()
    }

    /// Every kernel element reads the source pixel of the definition.
    #[test]
    fn phases_are_the_definition_regrouped() {
        let axis = Axis::new(5, 3, 2, [1, 2], 2).unwrap();
        for p in 0..axis.output {
            let (a, m) = (p % 2, p / 2);
            for tap in &axis.phases[a] {
                for &t in &tap.kernel {
                    let source = (2 * p + t).cast_signed() - 1;
                    assert_eq!(2 * m.cast_signed() + tap.offset, source.div_euclid(2));
                }
            }
        }
    }

    #[test]
    fn transposing_twice_changes_nothing() {
        for axis in axes() {
            assert_eq!(axis.transpose().transpose(), axis);
        }
    }

    #[test]
    fn inside_is_the_range_within_the_source() {
        for axis in axes() {
            for (a, taps) in axis.phases.iter().enumerate() {
                for tap in taps {
                    let count = axis.count(a);
                    let inside = axis.inside(tap.offset, count);
                    for m in 0..count {
                        let source = (axis.step * m).cast_signed() + tap.offset;
                        let there = (0..axis.source.cast_signed()).contains(&source);
                        assert_eq!(inside.contains(&m), there, "{axis:?} {tap:?} {m}");
                    }
                }
            }
        }
    }

    /// A stride or an upsampling factor beyond the image leaves the one output of the definition.
    #[test]
    fn steps_beyond_the_image_are_cut() {
        let axis = Axis::new(5, 3, usize::MAX, [1, 1], 1).unwrap();
        assert_eq!((axis.output, axis.step), (1, 5));
        assert_eq!(axis.transpose().phases.len(), 5);
        let axis = Axis::new(1, 3, 7, [1, 1], 7).unwrap();
        assert_eq!((axis.output, axis.phases.len()), (1, 1));
        let offsets: Vec<_> = axis.phases[0].iter().map(|tap| tap.offset).collect();
        assert_eq!(offsets, [-1, 0]);
        assert_eq!(axis.phases[0][1].kernel, [1, 2]);
    }

    /// Nearest 2× upsampling before a 3-wide kernel: two taps per phase instead of three.
    #[test]
    fn upsampling_merges_taps() {
        let axis = Axis::new(8, 3, 1, [1, 1], 2).unwrap();
        assert_eq!(axis.phases.len(), 2);
        assert!(axis.phases.iter().all(|taps| taps.len() == 2));
        assert_eq!(axis.transpose().phases[0].len(), 4);
    }
}
