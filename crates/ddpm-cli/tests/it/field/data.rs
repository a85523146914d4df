//! The section "Data".

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};

use super::{Fault, check, ends};
use crate::run::{ddpm, ok, tiny};

const ROWS: &[Fault] = &[
    Fault {
        reports: "lucidrains/stylegan2-pytorch#7, pytorch/vision#138",
        kind: "an incompletely copied JPEG stops training, and the user has to find it",
        tried: "a good PNG and a JPEG cut at ½, at ⅒, after 700 bytes, 100 bytes before its end, and after 700 \
                bytes with an end marker added",
        run: cut_jpegs,
    },
    Fault {
        reports: "etemesi254/zune-image#312, #354, #67, #273",
        kind: "a decoder fills in missing parts of a JPEG and only warns",
        tried: "3,000 bytes in the middle of a JPEG's scan set to zero",
        run: zeroed_jpeg,
    },
    Fault {
        reports: "openai/guided-diffusion#58, hollowstrawberry/kohya-colab#23, modelscope/DiffSynth-Studio#1456",
        kind: "WebP or BMP files are passed over",
        tried: "4 files each of png, webp, bmp, tif, gif and jfif, and a text file",
        run: formats,
    },
    Fault {
        reports: "JoePenna/Dreambooth-Stable-Diffusion#177, pytorch/vision#669",
        kind: "images in nested folders are not found",
        tried: "`{a,b}/{0..2}.png` and `{a,b}/more/{0..2}.png`",
        run: nested,
    },
    Fault {
        reports: "CAMMA-public/Endoscapes#3, huggingface/pytorch-image-models#334",
        kind: "a data set of links, many of them broken after copying",
        tried: "a PNG and a link to a missing file",
        run: broken_link,
    },
    Fault {
        reports: "pytorch/vision#4925",
        kind: "an empty class folder",
        tried: "`cat/0.png`, `dog/` without a file, `owl/0.png`; `num_classes = 3`",
        run: empty_class,
    },
    Fault {
        reports: "NVlabs/edm2#11, lucidrains/denoising-diffusion-pytorch#123",
        kind: "unclear which number stands for which class",
        tried: "folders `0` … `10`; then `--class 2`, and `--class cat`, which does not exist",
        run: class_names,
    },
    Fault {
        reports: "huggingface/dataset-viewer#1361, facebookresearch/detectron2#1221",
        kind: "legitimate large images exceed a limit of the decoder",
        tried: "a PNG of 12,000×9,000 pixels, the size of a phone's photograph",
        run: large,
    },
    Fault {
        reports: "tensorflow/tensor2tensor#1695, yandex-research/tab-ddpm#6",
        kind: "the given data is ignored, and default data is used for training",
        tried: "`ddpm train --data photos`",
        run: |folder| ends(folder, "train --data photos --out r", 1),
    },
    Fault {
        reports: "huggingface/diffusers#5330",
        kind: "an argument that has no effect is accepted",
        tried: "`ddpm eval nll --from RUN --data photos` for a run on the digits; `size = 8` with `kind = \
                \"digits\"`",
        run: without_effect,
    },
];

/// Writes `c.toml`, which trains one step on the folder `d`.
pub(crate) fn config(folder: &Path, model: &str) {
    let text = format!(
        "name = \"t\"\nsteps = 1\nbatch_size = 2\n\
         [data]\nkind = \"images\"\npath = \"d\"\nsize = 8\n\
         [process]\nkind = \"cosine\"\ntimesteps = 20\n\
         [objective]\nparametrization = \"epsilon\"\nweighting = \"simple\"\n\
         [model]\nkind = \"unet\"\nblock_out_channels = [8, 16]\nattention = [false, false]\n\
         layers_per_block = 1\nnorm_num_groups = 4\n{model}\n\
         [optimizer]\nlearning_rate = 1e-3\n[ema]\ndecay = 0.9\n\
         [sampling]\nsampler = \"ddim\"\nsteps = 2\ncount = 1\nevery = 0\n\
         [checkpoint]\nevery = 1\n"
    );
    fs::write(folder.join("c.toml"), text).unwrap();
}

/// A picture like no other of the same size.
fn photo(side: u32) -> DynamicImage {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 25) as u8
    };
    DynamicImage::from(RgbImage::from_fn(side, side, |x, y| {
        let [x, y] = [x, y].map(|v| u8::try_from(v / 2).unwrap());
        image::Rgb([x + noise(), y + noise(), noise()])
    }))
}

fn coded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Writes a file, making its folder.
pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

pub(crate) fn png() -> Vec<u8> {
    coded(&photo(8), ImageFormat::Png)
}

/// The line of what a training says that contains these words.
fn line(folder: &Path, arguments: &str, words: &str) -> String {
    let output = ddpm(folder, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let line = said.lines().find(|line| line.contains(words));
    line.unwrap_or_else(|| panic!("no {words:?} in {said}"))
        .to_owned()
}

const TRAIN: &str = "train --config c.toml --out run";

fn jpeg() -> Vec<u8> {
    let mut bytes = Vec::new();
    photo(192)
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 75))
        .unwrap();
    bytes
}

fn cut_jpegs(folder: &Path) -> String {
    config(folder, "");
    write(folder, "d/a.png", &png());
    let jpeg = jpeg();
    let cut = |length: usize| jpeg[..length].to_vec();
    let mut shown = String::new();
    for damaged in [
        [cut(700), b"\xff\xd9".to_vec()].concat(),
        cut(jpeg.len() - 100),
        cut(700),
        cut(jpeg.len() / 10),
        cut(jpeg.len() / 2),
    ] {
        write(folder, "d/b.jpg", &damaged);
        shown = ends(folder, TRAIN, 1);
        assert!(shown.contains("d/b.jpg: is not whole: "), "{shown}");
    }
    shown
}

fn zeroed_jpeg(folder: &Path) -> String {
    config(folder, "");
    write(folder, "d/a.png", &png());
    let mut jpeg = jpeg();
    let middle = jpeg.len() / 2;
    jpeg[middle..middle + 3000].fill(0);
    write(folder, "d/b.jpg", &jpeg);
    ends(folder, TRAIN, 1)
}

fn formats(folder: &Path) -> String {
    config(folder, "");
    for (extension, format) in [
        ("png", ImageFormat::Png),
        ("webp", ImageFormat::WebP),
        ("bmp", ImageFormat::Bmp),
        ("tif", ImageFormat::Tiff),
        ("gif", ImageFormat::Gif),
        ("jfif", ImageFormat::Jpeg),
    ] {
        for i in 0..4 {
            let name = format!("d/{i}.{extension}");
            write(folder, &name, &coded(&photo(8), format));
        }
    }
    write(folder, "d/license.txt", b"");
    let note = line(folder, TRAIN, "passed over");
    fs::remove_dir_all(folder.join("run")).unwrap();
    let rows = line(folder, TRAIN, " rows of ");
    assert!(rows.starts_with("t: 24 rows"), "{rows}");
    format!("`{rows}`, `{note}`")
}

fn nested(folder: &Path) -> String {
    config(folder, "");
    for name in ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2"] {
        let (class, file) = name.split_once('/').unwrap();
        write(folder, &format!("d/{class}/{file}.png"), &png());
        write(folder, &format!("d/{class}/more/{file}.png"), &png());
    }
    let classes = line(folder, TRAIN, " classes:");
    assert_eq!(classes, "2 classes: 0 a (6), 1 b (6)");
    format!("12 rows: `{classes}`")
}

#[cfg(unix)]
fn broken_link(folder: &Path) -> String {
    config(folder, "");
    write(folder, "d/0.png", &png());
    std::os::unix::fs::symlink("../gone/1.png", folder.join("d/1.png")).unwrap();
    ends(folder, TRAIN, 1)
}

#[cfg(not(unix))]
fn broken_link(_: &Path) -> String {
    String::new()
}

fn empty_class(folder: &Path) -> String {
    config(folder, "num_classes = 3");
    write(folder, "d/cat/0.png", &png());
    write(folder, "d/owl/0.png", &png());
    fs::create_dir(folder.join("d/dog")).unwrap();
    let note = line(folder, TRAIN, "no image");
    fs::remove_dir_all(folder.join("run")).unwrap();
    let classes = line(folder, TRAIN, " classes:");
    assert_eq!(classes, "3 classes: 0 cat (1), 1 dog (0), 2 owl (1)");
    format!("`{classes}`, `{note}`")
}

fn class_names(folder: &Path) -> String {
    config(folder, "num_classes = 12");
    for class in 0..=10 {
        write(folder, &format!("d/{class}/0.png"), &png());
    }
    write(folder, "d/owl/0.png", &png());
    // Steps enough for the classes to matter.
    ok(folder, &format!("{TRAIN} --steps 20 --checkpoint-every 20"));
    let state =
        fs::read_to_string(folder.join("run/checkpoints/step-00000020/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(
        (&state["class_names"][2], &state["class_names"][11]),
        (&"2".into(), &"owl".into())
    );
    let names = fs::read_to_string(folder.join("run/classes.txt")).unwrap();
    assert!(
        names.starts_with("0\n1\n2\n") && names.ends_with("10\nowl\n"),
        "{names}"
    );
    // The same class by its name and by its number.
    let draw = "sample --from run --num 1 --steps 2 --raw";
    ok(folder, &format!("{draw} --class owl --out name"));
    ok(folder, &format!("{draw} --class 11 --out number"));
    ok(folder, &format!("{draw} --class 2 --out two"));
    let samples = |name: &str| crate::run::samples(&folder.join(name));
    assert!(samples("name") == samples("number") && samples("name") != samples("two"));
    let shown = ends(folder, &format!("{draw} --class cat --out none"), 1);
    format!("`--class 2` means the folder `2`; {shown}")
}

/// A PNG of one bit a pixel, all white: a small file.
fn large_png(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(&[kind, data].concat());
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length, &kind[..], data, &crc.sum().to_be_bytes()].concat()
    };
    let mut line = vec![0xff; width as usize / 8 + 1];
    line[0] = 0;
    let mut lines = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    (0..height).for_each(|_| lines.write_all(&line).unwrap());
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[1, 0, 0, 0, 0],
    ]
    .concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"IDAT", &lines.finish().unwrap()),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

fn large(folder: &Path) -> String {
    config(folder, "");
    write(
        folder,
        "d/0.png",
        &coded(&DynamicImage::from(GrayImage::new(8, 8)), ImageFormat::Png),
    );
    write(folder, "d/1.png", &large_png(12_000, 9_000));
    let rows = line(folder, TRAIN, " rows of ");
    fs::write(folder.join("d/1.png"), large_png(8, 8)).unwrap();
    assert!(rows.starts_with("t: 2 rows"), "{rows}");
    // Beyond all memory; the limit that the message states depends on the machine.
    let mut header = large_png(8, 8);
    header[16..20].copy_from_slice(&4_000_000_u32.to_be_bytes());
    header[20..24].copy_from_slice(&4_000_000_u32.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&header[12..29]);
    header[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    write(folder, "d/1.png", &header);
    fs::remove_dir_all(folder.join("run")).unwrap();
    let refusal = ends(folder, TRAIN, 1);
    assert!(
        refusal.contains("half of this machine's memory"),
        "{refusal}"
    );
    format!("`{rows}`; the limit is half of the machine's memory, and a message states it")
}

fn without_effect(folder: &Path) -> String {
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run");
    let option = ends(
        folder,
        "eval nll --from run --num 4 --times 2 --data photos",
        1,
    );
    let text = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let text = text.replace("kind = \"digits\"", "kind = \"digits\"\nsize = 8");
    fs::write(folder.join("size.toml"), text).unwrap();
    let key = ends(folder, "train --config size.toml --out size", 1);
    format!("{option}; {key}")
}

#[test]
fn the_page_says_what_happens() {
    check("Data", ROWS);
}
