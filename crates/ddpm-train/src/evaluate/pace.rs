//! How far an evaluation is, and whether it goes on.

use crate::interrupt::{Interrupted, Stop};
use crate::progress::Tally;

/// The pace of an evaluation, counted in calls of the network.
pub(super) struct Pace<'a> {
    stop: &'a Stop,
    tally: Tally,
    images: usize,
    /// Calls for a batch.
    calls: usize,
    /// Images done.
    done: usize,
    /// Images at hand, and calls made for them.
    batch: usize,
    made: usize,
}

impl<'a> Pace<'a> {
    /// The pace of so many images, each batch of them in so many calls.
    pub(super) fn new(images: usize, calls: usize, stop: &'a Stop) -> Self {
        Self {
            stop,
            tally: Tally::new("images", 0, images),
            images,
            calls,
            done: 0,
            batch: 0,
            made: 0,
        }
    }

    /// The images at hand are done, and so many others are next.
    pub(super) fn next(&mut self, images: usize) {
        self.done += self.batch;
        self.batch = images;
        self.made = 0;
    }

    /// A call is about to be made.
    ///
    /// # Errors
    ///
    /// If it was asked to stop.
    pub(super) fn call(&mut self) -> Result<(), Interrupted> {
        let share = (self.made as f64 / self.calls as f64).min(1.0);
        self.tally
            .at(self.done as f64 + share * self.batch as f64, "");
        self.made += 1;
        let (done, images) = (self.done, self.images);
        self.stop.asked().map_or(Ok(()), |signal| {
            let done = format!("{done} of {images} images");
            Err(Interrupted { signal, done })
        })
    }
}
