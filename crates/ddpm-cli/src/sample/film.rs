//! `film.gif`: the reverse process of the first samples, written frame by frame.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gif::{Encoder, Frame, Repeat};
use image::RgbImage;

use ddpm_files::{aside, sync_parent};

/// Frames of the longest film.
const FRAMES: usize = 100;

/// Samples that a film shows.
pub(super) const SHOWN: usize = 16;

/// Time that a frame is shown, in hundredths of a second; the last one is looked at for longer.
const DELAY: u16 = 8;
const LAST_DELAY: u16 = 200;

/// The gif crate's measure of how many pixels choose a frame's 256 colours: one in ten.
const SPEED: i32 = 10;

/// A film that is being written under another name, which goes if it is not finished.
pub(super) struct Film {
    path: PathBuf,
    aside: PathBuf,
    steps: usize,
    /// `None` before the first frame, whose size is the film's.
    encoder: Option<Encoder<BufWriter<File>>>,
    finished: bool,
}

impl Film {
    /// A film of a reverse process of so many steps.
    pub(super) fn new(path: &Path, steps: usize) -> Self {
        Self {
            aside: aside(path),
            path: path.to_owned(),
            steps,
            encoder: None,
            finished: false,
        }
    }

    /// Whether the film shows the state after a step, counted from 1: every one, or 100 evenly
    /// spread, with the first and the last.
    pub(super) fn shows(&self, step: usize) -> bool {
        if self.steps <= FRAMES {
            return true;
        }
        // Frame i shows step 1 + i·(steps − 1)/(FRAMES − 1), rounded down.
        let first_after = |step: usize| ((step - 1) * (FRAMES - 1)).div_ceil(self.steps - 1);
        step == self.steps || first_after(step) < first_after(step + 1)
    }

    /// Adds the state after a step.
    pub(super) fn push(&mut self, picture: &RgbImage, step: usize) -> Result<()> {
        let pushed = self.encode(picture, step);
        pushed.with_context(|| self.path.display().to_string())
    }

    fn encode(&mut self, picture: &RgbImage, step: usize) -> Result<()> {
        let too_large = || format!("a frame of {:?} pixels", picture.dimensions());
        let width = u16::try_from(picture.width()).with_context(too_large)?;
        let height = u16::try_from(picture.height()).with_context(too_large)?;
        if self.encoder.is_none() {
            let file = BufWriter::new(File::create(&self.aside)?);
            let mut encoder = Encoder::new(file, width, height, &[])?;
            encoder.set_repeat(Repeat::Infinite)?;
            self.encoder = Some(encoder);
        }
        let mut frame = Frame::from_rgb_speed(width, height, picture.as_raw(), SPEED);
        frame.delay = if step == self.steps {
            LAST_DELAY
        } else {
            DELAY
        };
        if let Some(encoder) = &mut self.encoder {
            encoder.write_frame(&frame)?;
        }
        Ok(())
    }

    /// Gives the film its name.
    pub(super) fn finish(mut self) -> Result<()> {
        let finished = self.rename();
        self.finished = finished.is_ok();
        finished.with_context(|| self.path.display().to_string())
    }

    fn rename(&mut self) -> Result<()> {
        let encoder = self.encoder.take().context("a film without a frame")?;
        let file = encoder.into_inner()?.into_inner();
        file.map_err(std::io::IntoInnerError::into_error)?
            .sync_all()?;
        fs::rename(&self.aside, &self.path)?;
        Ok(sync_parent(&self.path)?)
    }
}

impl Drop for Film {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.aside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_film_has_at_most_a_hundred_frames_with_both_ends() {
        for steps in [1, 2, 99, 100, 101, 150, 250, 999, 1000, 1_000_000] {
            let film = Film::new(Path::new("film.gif"), steps);
            let shown: Vec<usize> = (1..=steps).filter(|&step| film.shows(step)).collect();
            assert_eq!(shown.len(), steps.min(100), "{steps} steps");
            assert_eq!((shown[0], shown[shown.len() - 1]), (1, steps));
            let gaps: Vec<usize> = shown.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let (least, most) = (gaps.iter().min(), gaps.iter().max());
            assert!(
                most.zip(least)
                    .is_none_or(|(most, least)| most - least <= 1),
                "{steps} steps: {gaps:?}"
            );
        }
    }
}
