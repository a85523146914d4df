//! Any bytes as a picture in a folder of them: PNG or JPEG, as its first bytes say.

#![no_main]

use ddpm_fuzz::data::load;
use ddpm_train::data::{Channels, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    load(&[("picture.png", bytes)], |folder| Source::Images {
        path: folder.to_owned(),
        size: [8, 8],
        channels: Channels::Rgb,
    });
});
