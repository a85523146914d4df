//! The section "Samples".

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Fault, check, ends, outcome};
use crate::run::{ddpm, ok};
use crate::samples::{files_of, names, spoil, train};

const ROWS: &[Fault] = &[
    #[cfg(unix)]
    Fault {
        reports: "crowsonkb/k-diffusion#49",
        kind: "all samples are kept in memory until the last one is drawn",
        tried: "Ctrl-C while drawing 400 samples; then the command that is printed",
        run: stopped,
    },
    Fault {
        reports: "crowsonkb/k-diffusion#49",
        kind: "a number of samples or rows beyond the capacity of any machine",
        tried: "`--num` and `--rows` of 10¹² and 2⁶⁴ − 1",
        run: too_many,
    },
    Fault {
        reports: "(none)",
        kind: "the output path is checked last",
        tried: "`--out` is a file, `--json` is in a missing folder; the run does not exist either",
        run: output_first,
    },
    Fault {
        reports: "mseitzer/pytorch-fid#81, toshas/torch-fidelity#30",
        kind: "a picture of different size among the samples",
        tried: "`ddpm sample --num 4 --film --raw --out s`",
        run: nothing_else,
    },
    Fault {
        reports: "Sygil-Dev/sygil-webui#130, divamgupta/diffusionbee-stable-diffusion-ui#360, \
                  mflux-community/mflux#9",
        kind: "earlier pictures are overwritten",
        tried: "6 samples, then 2 with another seed into the same folder; then the same with `--overwrite`",
        run: not_overwritten,
    },
    #[cfg(unix)]
    Fault {
        reports: "(none)",
        kind: "a full disk or quota while samples are written",
        tried: "60 samples with `--raw` under `ulimit -f 20`, then `--resume` without the limit",
        run: full_disk,
    },
    Fault {
        reports: "huggingface/diffusers#6815, huggingface/diffusers#2153, huggingface/diffusers#5960",
        kind: "black pictures, because a number is NaN",
        tried: "NaN in one weight of a run; a weight so large that a step overflows",
        run: not_finite,
    },
];

#[cfg(unix)]
fn stopped(folder: &Path) -> String {
    use crate::faults::{said, send, start, until};
    train(folder);
    let draw = "sample --from run --num 400 --sampler ddpm --steps 40 --out";
    let mut child = start(folder, &format!("{draw} s"));
    until("a batch", || folder.join("s/images/0015.png").exists());
    send(&child, &["INT"]);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let said = said(folder);
    let (_, command) = said.trim_end().rsplit_once("go on with: ddpm ").unwrap();
    let there = names(&folder.join("s/images"));
    assert!((16..400).contains(&there.len()) && there.len().is_multiple_of(16));
    ok(folder, command);
    ok(folder, &format!("{draw} whole"));
    assert!(files_of(&folder.join("s")) == files_of(&folder.join("whole")));
    format!(
        "exit 130 between two steps; the finished batches are complete; `ddpm {command}` draws \
         the others, and the folder is the same as without the interruption"
    )
}

fn too_many(folder: &Path) -> String {
    train(folder);
    for number in ["1000000000000", "18446744073709551615"] {
        let shown = ends(
            folder,
            &format!("sample --from run --num {number} --out s"),
            1,
        );
        assert!(shown.contains("samples take about"), "{shown}");
        let shown = ends(folder, &format!("forward --rows {number} --out f"), 1);
        assert!(shown.contains("that there are"), "{shown}");
        assert!(!folder.join("s").exists() && !folder.join("f").exists());
    }
    "exit 1 before anything is drawn, with the required and the available disk space, or memory \
     for `--rows`"
        .to_owned()
}

fn output_first(folder: &Path) -> String {
    fs::write(folder.join("f"), "mine").unwrap();
    let sample = ends(folder, "sample --from nowhere --out f", 1);
    let eval = ends(folder, "eval nll --from nowhere --json no/bits.json", 1);
    assert!(
        eval.contains("no/bits.json") && !eval.contains("nowhere"),
        "{eval}"
    );
    assert_eq!(fs::read_to_string(folder.join("f")).unwrap(), "mine");
    format!("{sample}; {eval}")
}

fn nothing_else(folder: &Path) -> String {
    train(folder);
    ok(folder, "sample --from run --num 4 --film --raw --out s");
    let images = names(&folder.join("s/images"));
    assert_eq!(images, ["0000.png", "0001.png", "0002.png", "0003.png"]);
    for image in &images {
        let image = image::open(folder.join("s/images").join(image)).unwrap();
        assert_eq!((image.width(), image.height()), (8, 8));
    }
    let beside = names(&folder.join("s")).join("`, `");
    format!("`images/` holds the 4 samples, all 8×8, and nothing else; the folder holds `{beside}`")
}

fn not_overwritten(folder: &Path) -> String {
    train(folder);
    ok(folder, "sample --from run --num 6 --out s");
    let before = files_of(&folder.join("s"));
    let second = "sample --from run --num 2 --seed 5 --out s";
    let shown = ends(folder, second, 1);
    assert_eq!(files_of(&folder.join("s")), before);
    ok(folder, &format!("{second} --overwrite"));
    assert_eq!(names(&folder.join("s/images")), ["0000.png", "0001.png"]);
    format!("{shown}; with `--overwrite` the folder contains only the two")
}

#[cfg(unix)]
fn full_disk(folder: &Path) -> String {
    train(folder);
    let draw = "sample --from run --num 60 --raw --out s";
    let program = env!("CARGO_BIN_EXE_ddpm");
    let script = format!("ulimit -f 20; exec {program} {draw}");
    let mut shell = Command::new("sh");
    let output = shell
        .current_dir(folder)
        .args(["-c", &script])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = outcome(&output);
    assert!(shown.contains("32 of 60 samples are done"), "{shown}");
    assert_eq!(names(&folder.join("s/images")).len(), 32);
    ok(folder, &format!("{draw} --resume"));
    ok(folder, &draw.replace("--out s", "--out whole"));
    assert!(files_of(&folder.join("s")) == files_of(&folder.join("whole")));
    format!(
        "{shown}; no file is truncated, and after `--resume` the samples are the same as without the limit"
    )
}

fn not_finite(folder: &Path) -> String {
    train(folder);
    spoil(folder, "conv_out.bias", |values| values[0] = f32::NAN);
    let draw = "sample --from run --num 1 --raw --out s";
    let weight = ends(folder, draw, 1);
    assert!(weight.contains("conv_out.bias holds NaN"), "{weight}");
    spoil(folder, "conv_out.bias", |values| values[0] = 0.0);
    spoil(folder, "conv_out.weight", |values| values.fill(f32::MAX));
    let step = ends(folder, draw, 1);
    assert!(step.contains("step 1 of 3"), "{step}");
    let output = ddpm(folder, &format!("{draw} --resume"));
    assert_eq!(output.status.code(), Some(1));
    assert!(!names(&folder.join("s")).contains(&"grid.png".to_owned()));
    format!("{weight}; {step}")
}

#[test]
fn the_page_says_what_happens() {
    check("Samples", ROWS);
}
