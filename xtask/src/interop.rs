//! `cargo xtask interop`: diffusers and we load each other's networks and compute the same.
//!
//! `benches/peers/interop.py` makes a network with random weights for each case,
//! `benches/examples/interop.rs` computes with it and makes one of its own, and the first compares.

use crate::{Refusal, cargo_command, commands::no_arguments, peers, race::number, root};
use anyhow::{Context as _, bail};
use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

/// The largest difference allowed for each quantity, and whether it is relative to the largest
/// value. A pixel's step of 1/255 in [0, 1] is twice that in the network's [−1, 1].
const LIMITS: [(&str, f64, bool); 3] = [
    ("forward", 1e-4, true),
    ("gradient", 1e-3, true),
    ("DDIM-50", 2.0 / 255.0, false),
];

/// What was compared, once.
#[derive(Debug, PartialEq)]
struct Line {
    case: String,
    weights: String,
    quantity: String,
    absolute: f64,
    relative: f64,
}

/// Compares every case, prints the table and writes it to `docs/interop.md`.
pub(crate) fn interop(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    no_arguments(arguments)?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let python = peers::install(&target.join("race"), "no comparison")?;
    let ours = build(&target)?;
    let folder = target.join("interop");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let theirs = || {
        let mut command = Command::new(&python);
        command.arg(root().join("benches/peers/interop.py"));
        command
    };
    let mut lines = Vec::new();
    for (number, case) in output(theirs().arg("list"))?.lines().enumerate() {
        eprintln!("{case}");
        let folder = folder.join(number.to_string());
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        output(theirs().arg("make").arg(&folder).arg(case))?;
        output(Command::new(&ours).arg(&folder))?;
        let compared = output(theirs().arg("compare").arg(&folder))?;
        for line in compared.lines() {
            let line = parse(case, line).with_context(|| format!("{case}: {line}"))?;
            lines.push(line);
        }
    }
    let page = page(&lines);
    print!("{}", table(&lines));
    let path = root().join("docs/interop.md");
    fs::write(&path, page).with_context(|| path.display().to_string())?;
    let wrong: Vec<String> = lines.iter().filter_map(excess).collect();
    if wrong.is_empty() && !lines.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("not the same: {}", wrong.join("; "));
}

/// Compiles our side.
fn build(target: &Path) -> anyhow::Result<PathBuf> {
    let mut build = cargo_command();
    build.args(["build", "--release", "--package", "ddpm-benches"]);
    build.args(["--example", "interop"]).current_dir(root());
    if !build.status().context("cannot start cargo")?.success() {
        bail!("our side does not compile, see above");
    }
    let name = format!("interop{}", env::consts::EXE_SUFFIX);
    Ok(target.join("release/examples").join(name))
}

/// What a program writes, if it succeeds.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        return Err(Refusal(format!("{command:?} failed, see above")).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn parse(case: &str, line: &str) -> Option<Line> {
    Some(Line {
        case: case.to_owned(),
        weights: text(line, "weights")?.to_owned(),
        quantity: text(line, "quantity")?.to_owned(),
        absolute: number(line, "absolute")?,
        relative: number(line, "relative")?,
    })
}

/// The text `key` of a flat JSON object, without escapes.
fn text<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{key}\": \""))?;
    rest.split('"').next()
}

/// What is wrong with a line, if it is beyond its limit; a NaN is beyond every limit.
fn excess(line: &Line) -> Option<String> {
    let limit = LIMITS.iter().find(|(name, ..)| *name == line.quantity);
    let &(_, limit, relative) = limit?;
    let found = if relative {
        line.relative
    } else {
        line.absolute
    };
    let within = found <= limit;
    (!within).then(|| {
        let Line {
            case,
            weights,
            quantity,
            ..
        } = line;
        format!("{case}, {weights} weights, {quantity}: {found:e} is over {limit:e}")
    })
}

/// A row a case and direction.
fn table(lines: &[Line]) -> String {
    let mut text = String::from("| configuration | weights |");
    for (quantity, ..) in LIMITS {
        // Writing to a string cannot fail.
        let _ = write!(text, " {quantity} |");
    }
    text.push_str("\n|---|---|--:|--:|--:|\n");
    for lines in lines.chunk_by(|a, b| (&a.case, &a.weights) == (&b.case, &b.weights)) {
        let _ = write!(text, "| {} | {} |", lines[0].case, lines[0].weights);
        for line in lines {
            let _ = match line.quantity.as_str() {
                "DDIM-50" => write!(text, " {:.1e} |", line.absolute),
                _ => write!(text, " {:.1e} ({:.1e}) |", line.absolute, line.relative),
            };
        }
        text.push('\n');
    }
    text
}

fn page(lines: &[Line]) -> String {
    let table = table(lines);
    format!(
        "\
# Interoperation with diffusers

`cargo xtask interop` writes this page. For each configuration of `UNet2DModel` it takes a network
with random weights made in Python (*theirs*), and one made here and exported (*ours*). Both sides
load it and compute, in f32 on the CPU:

- *forward*: the output for two images, at two times;
- *gradient*: of the mean squared distance of the output from a target, in every weight;
- *DDIM-50*: fifty steps from the same noise, x₀ clipped, ε following from the clipped x₀
  (`use_clipped_model_output` in diffusers).

The numbers are the largest absolute differences, and in parentheses those relative to the largest
value. The limits are 1e-4 relative for the output, 1e-3 relative for gradients, and for pixels of
[−1, 1] 2/255 = 7.8e-3, one step of eight bits.

{table}
The configurations and the layouts of their files are in `benches/peers/interop.py`; *f16*, *bf16*
and *old names* say what the file of weights holds. Four small networks lie in the tests, which need
no Python.

## What is supported

| of `UNet2DModel` | |
|---|---|
| block types | `DownBlock2D`, `AttnDownBlock2D`, `UpBlock2D`, `AttnUpBlock2D`, in any order on either path |
| bottom | `UNetMidBlock2D`, with attention or without (`add_attention`), with any `mid_block_scale_factor` |
| activations | silu (swish), mish, gelu, relu |
| time | positional; `resnet_time_scale_shift` default or scale_shift; any `freq_shift`, `flip_sin_to_cos` |
| classes | `num_class_embeds` |
| files | folders nested or flat; `.safetensors`, `.bin` (PyTorch 1.6 or later), either sharded with its index; f32, f16, bf16; attention's names before diffusers 0.12 |

Anything else is refused with the key and its value: `fourier` and `learned` times, `resnet` down- and
upsampling, `Skip` and `Resnet` blocks, `class_embed_type`, other `attn_norm_num_groups` than
`norm_num_groups`. So is a key that is not one of `UNet2DModel`'s. In networks with scale_shift,
diffusers leaves out the norm before the bottom's attention if `attn_norm_num_groups` is absent; such
networks load, and ours are exported with the norm they have.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
        {\"weights\": \"ours\", \"quantity\": \"forward\", \"absolute\": 1.5e-06, \"relative\": 5e-07}";

    #[test]
    fn a_line_is_read() {
        let line = parse("plain", OUTPUT).unwrap();
        assert_eq!((&*line.weights, &*line.quantity), ("ours", "forward"));
        assert_eq!((line.absolute, line.relative), (1.5e-6, 5e-7));
        assert_eq!(parse("plain", "{}"), None);
    }

    #[test]
    fn a_difference_over_the_limit_is_found() {
        let with = |absolute, relative, quantity: &str| Line {
            absolute,
            relative,
            quantity: quantity.to_owned(),
            ..parse("plain", OUTPUT).unwrap()
        };
        assert_eq!(excess(&with(1.0, 9e-5, "forward")), None);
        assert!(excess(&with(0.0, 2e-4, "forward")).is_some());
        assert!(excess(&with(0.0, f64::NAN, "gradient")).is_some());
        assert_eq!(excess(&with(7e-3, 1.0, "DDIM-50")), None);
        assert!(excess(&with(8e-3, 0.0, "DDIM-50")).is_some());
    }

    #[test]
    fn a_case_and_its_weights_are_a_row() {
        let line = || parse("plain", OUTPUT).unwrap();
        let gradient = Line {
            quantity: "gradient".to_owned(),
            ..line()
        };
        let theirs = Line {
            weights: "theirs".to_owned(),
            ..line()
        };
        let text = table(&[line(), gradient, theirs]);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows[0],
            "| plain | ours | 1.5e-6 (5.0e-7) | 1.5e-6 (5.0e-7) |"
        );
        assert_eq!(rows.len(), 2);
    }
}
