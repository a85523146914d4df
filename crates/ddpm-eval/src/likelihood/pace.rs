//! How far an evaluation is, and whether it goes on.

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Images done; those at hand count by the calls of the network that were made for them.
    pub done: f64,
    /// All images.
    pub images: usize,
}

/// The pace of an evaluation, counted in calls of the network.
pub(super) struct Pace<F> {
    watch: F,
    images: usize,
    /// Calls for a batch.
    calls: usize,
    /// Images done.
    done: usize,
    /// Images at hand, and calls made for them.
    batch: usize,
    made: usize,
}

impl<F: FnMut(Progress) -> bool> Pace<F> {
    /// The pace of so many images, each batch of them in so many calls.
    pub(super) fn new(images: usize, calls: usize, watch: F) -> Self {
        Self {
            watch,
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
    /// If the caller asks to stop.
    pub(super) fn call(&mut self) -> Result<(), Stopped> {
        let share = (self.made as f64 / self.calls as f64).min(1.0);
        self.made += 1;
        let (done, images) = (self.done, self.images);
        let progress = Progress {
            done: done as f64 + share * self.batch as f64,
            images,
        };
        if (self.watch)(progress) {
            return Ok(());
        }
        Err(Stopped { done, images })
    }
}

/// The caller asked to stop.
pub(super) struct Stopped {
    pub(super) done: usize,
    pub(super) images: usize,
}
