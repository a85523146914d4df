//! Folders of images, held in memory or not.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ddpm_data::{InMemory, Loader};
use image::{DynamicImage, ImageFormat, RgbImage};

use crate::checkpoints::hash;
use crate::field::data::{config, write};
use crate::run::{ddpm, ok, refused};

/// A folder of six images in two classes, and a configuration for it, in memory or not.
fn photos(folder: &Path, in_memory: bool) {
    for i in 0..6_u8 {
        let byte = |n: u32| u8::try_from(n).unwrap();
        let pixel = |x, y| image::Rgb([30 * i, byte(20 * x), byte(9 * y)]);
        let image = RgbImage::from_fn(9, 8, pixel);
        let mut bytes = std::io::Cursor::new(Vec::new());
        let image = DynamicImage::from(image);
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        let class = if i < 3 { "a" } else { "b" };
        write(folder, &format!("d/{class}/{i}.png"), bytes.get_ref());
    }
    config(folder, "");
    let path = folder.join("c.toml");
    let text = fs::read_to_string(&path).unwrap();
    let key = format!("size = 8\nin_memory = {in_memory}");
    fs::write(&path, text.replace("size = 8", &key)).unwrap();
}

#[test]
fn a_run_is_the_same_in_memory_and_not_and_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (run, in_memory) in [("kept", true), ("read", false)] {
        photos(folder, in_memory);
        let arguments = format!("train --config c.toml --steps 4 --out {run}");
        let output = ddpm(folder, &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert_ne!(
            said.contains("images stay in their files"),
            in_memory,
            "{said}"
        );
    }
    let whole = hash(folder, "kept");
    assert_eq!(hash(folder, "read"), whole);
    for (run, was, is) in [("kept", "true", "false"), ("read", "false", "true")] {
        fs::remove_dir_all(folder.join(run).join("checkpoints/step-00000004")).unwrap();
        let path = folder.join(run).join("config.toml");
        let text = fs::read_to_string(&path).unwrap();
        let [was, is] = [was, is].map(|value| format!("in_memory = {value}"));
        assert!(text.contains(&was), "{text}");
        fs::write(&path, text.replace(&was, &is)).unwrap();
        ok(folder, &format!("train --out {run} --resume"));
        assert_eq!(hash(folder, run), whole, "{run}");
    }
    fs::remove_file(folder.join("d/b/5.png")).unwrap();
    let words = ["the data is not what", "was trained on"];
    refused(folder, "train --out read --resume --steps 5", 1, &words);
}

/// The pixels of the row that the third step needs are cut off.
#[test]
fn a_broken_file_ends_the_run_with_its_name_and_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    photos(folder, false);
    let numbers = InMemory::floats(&[1], vec![0.0; 6]).unwrap();
    let order = Loader::new(Arc::new(numbers), 2, 0..2, 0, false, 0, 0).unwrap();
    let i = order.batch(2).unwrap().indices[0];
    let name = format!("d/{}/{i}.png", if i < 3 { "a" } else { "b" });
    let bytes = fs::read(folder.join(&name)).unwrap();
    fs::write(folder.join(&name), &bytes[..bytes.len() - 20]).unwrap();
    let arguments = "train --config c.toml --steps 4 --out r --checkpoint-every 100";
    let words = [
        name.as_str(),
        "is not whole",
        "after step 2",
        "--init-from r",
    ];
    refused(folder, arguments, 1, &words);
    assert!(folder.join("r/checkpoints/step-00000002").exists());
    hash(folder, "r");
    ok(
        folder,
        "train --config c.toml --init-from r --out s --steps 1",
    );
}
